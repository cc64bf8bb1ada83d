#!/usr/bin/python
"""Accounting as code: brings what slurmdbd knows of accounts, users and QOS to what the variables say, and changes only what differs.

Read top-down: what the keys of sacctmgr(1) mean, what the database holds, what is wanted, the plan between the two, and at the end
the module, which alone runs programs. Values are kept as texts, the database's or the user's; `meaning` is what is compared.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slurm_accounts
short_description: Accounts, users, QOS, shares and limits in Slurm's accounting
description:
  - Compares by meaning, so the order of TRES, units, forms of a time and case make no difference.
  - Runs on a host where sacctmgr and squeue work, as root or another administrator of the accounting.
  - A key of sacctmgr that is not mentioned is left alone and told in C(drift); with I(exclusive) it is set back. The word C(omit), or null,
    sets one back in any case. Description and organization that are not mentioned are left alone.
  - The account and user root and the QOS normal are never removed, nor is what other clusters of the same database use. Where jobs run or
    wait, nothing at all is changed if something of theirs were to be removed.
options:
  cluster: {description: Slurm's ClusterName. Registered if it is not., type: str, required: true}
  qos: {description: "Each a name and native parameters.", type: list, elements: dict}
  accounts: {description: "Each a name, parent, description, organization and native parameters.", type: list, elements: dict}
  users: {description: "Each a name, accounts, default_account, admin_level and native parameters of its associations.", type: list,
    elements: dict}
  exclusive: {description: Whether what is not named is removed. A list that is left out is of no concern., type: bool, default: false}
author: [Westward]
"""

RETURN = r"""
commands: {description: What was run to change something; in check mode, what would be., type: list, elements: str, returned: always}
drift: {description: What is in the database and not in the variables; with I(exclusive) it was removed., type: list, elements: str,
  returned: always}
"""

TIMEOUT_S = 300  # slurmdbd can take this long over a large change; a sacctmgr that hangs is not waited for for ever
# sacctmgr splits at commas, expands [1-3] and takes + and - for operators
NAME = re.compile(r"[^\s,|=\"'`\[\]+-][^\s,|=\"'`\[\]]*")


class Refused(Exception):
    """What is wrong with the variables, or what sacctmgr said; the text is for the user."""


# --- what the keys of sacctmgr(1) mean --------------------------------------------------------------------------------------------

Meaning = object  # of a value: equal where Slurm treats two texts alike


def _count(text: str) -> Meaning:
    return None if int(text) == -1 else int(text)


def _factor(text: str) -> Meaning:
    return None if float(text) == -1 else float(text)


def _fairshare(text: str) -> Meaning:
    return "parent" if text.lower() == "parent" else int(text)


def duration_s(text: str) -> int | None:
    """Seconds of MIN, MIN:SEC, HOUR:MIN:SEC, DAY-HOUR[:MIN[:SEC]]; None for no limit. ValueError for anything else."""
    if text.lower() in ("-1", "unlimited", "infinite"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is no time such as 90, 12:00:00 or 1-00:00:00")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]  # minutes come first
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def duration_text(seconds: int) -> str:
    """As sacctmgr prints it: [D-]HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _minutes(text: str) -> Meaning:
    seconds = duration_s(text)
    return None if seconds is None else -(-seconds // 60)  # Slurm rounds up


def _grace(text: str) -> Meaning:
    """Seconds; set as a number of them, shown as HH:MM:SS."""
    return max(int(text), 0) if ":" not in text else duration_s(text)


def _amount(name: str, text: str) -> int:
    """A number of TRES, in MiB where it is memory or a burst buffer: 10G of mem is 10240."""
    match = re.fullmatch(r"(-1|\d+(?:\.\d+)?)([kmgtp]?)b?", text.lower())
    if match is None:
        raise ValueError(f"{name}={text} is no number")
    power = " kmgtp".index(match[2] or " ")
    if power and (name == "mem" or name.startswith("bb/")):
        power -= 2
    return round(float(match[1]) * 1024.0**power)


def tres(text: str) -> dict[str, int]:
    """NAME=NUMBER,... by name; without those that are -1, no limit. ValueError where it reads otherwise."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, number = part.strip().rpartition("=")
        if not equals or not name or name[-1] in "+-":
            raise ValueError(f"{part!r} is not TRES=NUMBER")
        found[name.lower()] = _amount(name.lower(), number)
    return {name: number for name, number in found.items() if number != -1}


def _tres(text: str) -> Meaning:
    return frozenset(tres(text).items())


def names(text: str) -> frozenset[str]:
    """A list's names in lower case, in no order; none of the words that say there are none."""
    parts = (part.strip().lower() for part in text.split(","))
    return frozenset(part for part in parts if part not in ("", "none", "-1", "cluster", "off", "nousersarecoords"))


def _name(text: str) -> Meaning:
    return None if text == "-1" else text.lower()


def _text(text: str) -> Meaning:
    """Slurm keeps descriptions in lower case, quotes as backticks."""
    return re.sub("[\"']", "`", text).lower()


def _level(text: str) -> Meaning:
    levels = {"none": "None", "operator": "Operator", "admin": "Administrator", "administrator": "Administrator"}
    if text.lower() not in levels:
        raise ValueError(f"{text!r} is none of None, Operator, Administrator")
    return levels[text.lower()]


@dataclass(frozen=True)
class Key:
    """One key: how it is shown (`name`), how else it may be written, how sacctmgr takes it, and what it is where nobody set it."""

    name: str
    read: Callable[[str], Meaning]
    aliases: tuple[str, ...] = ()
    option: str = ""
    unset: str = ""
    reset: str = "-1"

    def meaning(self, text: str) -> Meaning:
        """Of a text of the database or the variables. ValueError where it has none."""
        text = text.strip() or self.unset
        return self.read(text) if text or self.read in (_tres, names) else None

    def is_unset(self, text: str) -> bool:
        return self.meaning(text) == self.meaning("")

    def settings(self, before: str, after: str) -> str:
        """OPTION=VALUE that makes the one into the other."""
        option = self.option or self.name
        if self.read is _tres:  # what is not named in it stays as it is
            old, new = tres(before), tres(after)
            changed = {name: number for name, number in new.items() if old.get(name) != number}
            parts = {**changed, **dict.fromkeys(sorted(set(old) - set(new)), -1)}
            return f"{option}=" + ",".join(f"{name}={number}" for name, number in parts.items())
        if self.is_unset(after):
            return f"{option}={self.reset}"
        meaning = self.meaning(after)
        if self.read is _minutes and isinstance(meaning, int):
            return f"{option}={duration_text(meaning * 60)}"
        if self.read in (_grace, _count):
            return f"{option}={meaning}"
        return f"{option}={','.join(map(str.strip, after.split(','))) if self.read is names else after}"


def _keyed(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


def _plain(read: Callable[[str], Meaning], *spelled: str) -> list[Key]:
    """Keys of one kind; each word is a name, and after slashes its other spellings."""
    return [Key(first, read, tuple(others)) for first, *others in (word.split("/") for word in spelled)]


DESCRIPTION = Key("Description", _text)
ACCOUNT_KEYS = _keyed(
    DESCRIPTION,
    Key("Organization", _text),
    Key("Flags", names, reset="NoUsersAreCoords"),
    Key("Parent", _name, unset="root", reset="root"),
)
USER_KEYS = _keyed(Key("AdminLevel", _level, unset="None", reset="None"), Key("DefaultAccount", _name))
ASSOCIATION_KEYS = _keyed(
    Key("Fairshare", _fairshare, ("Share", "Shares"), unset="1", reset="1"),
    Key("QOS", names, ("QosLevel",), reset=""),
    Key("DefaultQOS", _name),
    *_plain(_count, "Priority", "GrpJobs", "GrpJobsAccrue", "GrpSubmitJobs/GrpSubmit"),
    *_plain(_count, "MaxJobs", "MaxJobsAccrue", "MaxSubmitJobs/MaxSubmit"),
    *_plain(_minutes, "GrpWall", "MaxWall/MaxWallDurationPerJob"),
    *_plain(
        _tres, "GrpTRES", "GrpTRESMins", "GrpTRESRunMins", "MaxTRES/MaxTRESPJ/MaxTRESPerJob", "MaxTRESPerNode/MaxTRESPN"
    ),
    *_plain(_tres, "MaxTRESMins/MaxTRESMinsPJ/MaxTRESMinsPerJob"),
)
QOS_KEYS = _keyed(
    Key("Priority", _count, unset="0", reset="0"),
    Key("Flags", names),
    Key("Preempt", names, reset=""),
    Key("PreemptMode", names, reset="cluster"),
    Key("PreemptExemptTime", duration_s),
    Key("GraceTime", _grace, unset="0", reset="0"),
    Key("UsageFactor", _factor, unset="1"),
    *_plain(_factor, "UsageThreshold", "LimitFactor"),
    Key("MinPrioThreshold", _count, option="MinPrioThres"),  # sacctmgr does not know its own word in full
    *_plain(_count, "GrpJobs", "GrpJobsAccrue", "GrpSubmitJobs/GrpSubmit"),
    *_plain(_count, "MaxJobsAccruePerAccount/MaxJobsAccruePA", "MaxJobsAccruePerUser/MaxJobsAccruePU"),
    *_plain(_count, "MaxJobsPerAccount/MaxJobsPA", "MaxJobsPerUser/MaxJobsPU/MaxJobs"),
    *_plain(_count, "MaxSubmitJobsPerAccount/MaxSubmitJobsPA", "MaxSubmitJobsPerUser/MaxSubmitJobsPU/MaxSubmitJobs"),
    *_plain(_minutes, "GrpWall", "MaxWall/MaxWallDurationPerJob"),
    *_plain(_tres, "GrpTRES", "GrpTRESMins", "GrpTRESRunMins", "MinTRES/MinTRESPerJob"),
    *_plain(_tres, "MaxTRESPerJob/MaxTRES/MaxTRESPJ", "MaxTRESPerNode/MaxTRESPN", "MaxTRESPerUser/MaxTRESPU"),
    *_plain(_tres, "MaxTRESPerAccount/MaxTRESPA", "MaxTRESMinsPerJob/MaxTRESMins/MaxTRESMinsPJ"),
    Key(
        "MaxTRESRunMinsPerAccount", _tres, ("MaxTRESRunMinsPA",), "MaxTRESRunMinsPA"
    ),  # 22.05 takes the short words alone
    Key("MaxTRESRunMinsPerUser", _tres, ("MaxTRESRunMinsPU",), "MaxTRESRunMinsPU"),
    DESCRIPTION,  # last, since it may hold the separator
)
KEYS = {
    "qos": QOS_KEYS,
    "account": {**ACCOUNT_KEYS, **ASSOCIATION_KEYS},
    "user": USER_KEYS,
    "association": ASSOCIATION_KEYS,
}
KEPT = {("account", "root"), ("user", "root"), ("qos", "normal")}
LEFT_ALONE = ("Description", "Organization", "Parent", "DefaultAccount")  # where they are not mentioned


# --- what the database holds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Entity:
    """What a set of values belongs to. `name` is of a user, too, where `account` and `partition` say which of its associations."""

    kind: str
    name: str
    account: str = ""
    partition: str = ""

    def __str__(self) -> str:
        if self.kind != "association":
            return f"{self.kind} {self.name}"
        return f"user {self.name} in account {self.account}" + (
            f", partition {self.partition}" if self.partition else ""
        )


Texts = Mapping[str, str]


@dataclass
class State:
    """What slurmdbd knows: of this cluster, and by name alone of what other clusters use of the same database."""

    registered: bool = False
    entities: dict[Entity, Texts] = field(default_factory=dict)
    only_elsewhere: set[Entity] = field(
        default_factory=set
    )  # accounts and users without an association in this cluster
    shared: set[Entity] = field(default_factory=set)  # accounts, users and QOS that other clusters use

    def of(self, kind: str) -> list[Entity]:
        return [entity for entity in self.entities if entity.kind == kind]


ASSOCIATION_FIELDS = ("Cluster", "Account", "User", "Partition", "ParentName", *ASSOCIATION_KEYS)
QUERIES = {
    "qos": ("show", "qos", "format=" + ",".join(("Name", *QOS_KEYS))),
    "accounts": ("show", "account", "format=Account,Flags,Organization,Description"),
    "users": ("show", "user", "format=User,AdminLevel"),
    "associations": ("show", "assoc", "WOPLimits", "WithRawQOSLevel", "format=" + ",".join(ASSOCIATION_FIELDS)),
    "defaults": ("show", "assoc", "OnlyDefaults", "format=Cluster,User,Account"),
}


def _rows(output: str, fields: Sequence[str]) -> Iterable[dict[str, str]]:
    for line in output.splitlines():
        values = line.split("|", len(fields) - 1)
        if len(values) == len(fields):
            yield dict(zip(fields, values, strict=True))


def parse_state(cluster: str, outputs: Mapping[str, str]) -> State:
    """From what sacctmgr -nP printed for each of QUERIES."""
    state = State()
    for row in _rows(outputs["qos"], ("Name", *QOS_KEYS)):
        state.entities[Entity("qos", row.pop("Name"))] = row
    accounts = {
        row["Account"]: row for row in _rows(outputs["accounts"], ("Account", "Flags", "Organization", "Description"))
    }
    users = {row["User"]: row for row in _rows(outputs["users"], ("User", "AdminLevel"))}
    for row in _rows(outputs["associations"], ASSOCIATION_FIELDS):
        _take_association(state, row, row["Cluster"].lower() == cluster.lower(), accounts)
    defaults = {
        row["User"]: row["Account"]
        for row in _rows(outputs["defaults"], ("Cluster", "User", "Account"))
        if row["Cluster"].lower() == cluster.lower()
    }
    here = {entity.name for entity in state.of("association")}
    for name, row in users.items():
        entity = Entity("user", name)
        state.entities[entity] = {"AdminLevel": row["AdminLevel"], "DefaultAccount": defaults.get(name, "")}
        if name not in here:
            state.only_elsewhere.add(entity)
    for name, row in accounts.items():
        if Entity("account", name) not in state.entities:
            state.entities[Entity("account", name)] = {
                key: row[key] for key in ("Flags", "Organization", "Description")
            }
            state.only_elsewhere.add(Entity("account", name))
    return state


def _take_association(state: State, row: dict[str, str], here: bool, accounts: Mapping[str, Texts]) -> None:
    account, user = row["Account"], row["User"]
    if not here:
        state.shared.add(Entity("user", user) if user else Entity("account", account))
        state.shared.update(Entity("qos", name.lstrip("+-")) for name in names(row["QOS"] + "," + row["DefaultQOS"]))
        return
    state.registered = True
    limits = {key: row[key] for key in ASSOCIATION_KEYS}
    if user:
        state.entities[Entity("association", user, account, row["Partition"])] = limits
    else:
        known = {key: text for key, text in accounts.get(account, {}).items() if key != "Account"}
        state.entities[Entity("account", account)] = {**known, "Parent": row["ParentName"], **limits}


# --- what is wanted ---------------------------------------------------------------------------------------------------------------


def parse_wanted(params: Mapping[str, object]) -> dict[Entity, dict[str, str]]:
    """The variables as entities with their values. Refused where they cannot be meant: what is wrong, and of whom."""
    wanted: dict[Entity, dict[str, str]] = {}
    for entry in _entries(params, "qos"):
        _put(wanted, Entity("qos", _named(entry, "qos").lower()), _native(entry, "qos"))
    for entry in _entries(params, "accounts"):
        entity = Entity("account", _named(entry, "account").lower())
        own = {"Parent": "" if entity.name == "root" else str(entry.get("parent") or "root").lower()}
        own |= {
            key: _line(entity, entry[key.lower()]) for key in ("Description", "Organization") if entry.get(key.lower())
        }
        _put(wanted, entity, {**own, **_native(entry, "account")})
    for entry in _entries(params, "users"):
        _want_user(wanted, entry)
    return wanted


def _want_user(wanted: dict[Entity, dict[str, str]], entry: Mapping[str, object]) -> None:
    user, shared, places = _named(entry, "user"), _native(entry, "association"), entry.get("accounts")
    if not isinstance(places, list) or not places:
        raise Refused(f"user {user}: names none of its accounts")
    accounts = []
    for place in places:
        described = place if isinstance(place, dict) else {"name": place}
        accounts.append(_named(described, f"user {user}: account").lower())
        _put(
            wanted,
            Entity("association", user, accounts[-1]),
            {**shared, **_native(described, "association", f"user {user} in account")},
        )
    default = str(entry.get("default_account") or accounts[0]).lower()
    if default not in accounts:
        raise Refused(f"user {user}: its default account {default} is none of its accounts ({', '.join(accounts)})")
    own = {"DefaultAccount": default}
    if entry.get("admin_level"):
        own["AdminLevel"] = str(entry["admin_level"])
        _understood(USER_KEYS["AdminLevel"], own["AdminLevel"], f"user {user}")
    _put(wanted, Entity("user", user), own)


def _entries(params: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    entries = params.get(key)
    return entries if isinstance(entries, list) else []


def _put(wanted: dict[Entity, dict[str, str]], entity: Entity, texts: dict[str, str]) -> None:
    if entity in wanted:
        raise Refused(f"{entity} is there twice")
    wanted[entity] = texts


def _named(entry: Mapping[str, object], kind: str) -> str:
    name = str(entry.get("name") or "")
    if NAME.fullmatch(name) is None:
        raise Refused(
            f"{kind} {name!r}: no name that sacctmgr takes (no spaces, quotes, commas, brackets, none of | = in it, no + - before it)"
        )
    return name


def _line(entity: Entity, value: object) -> str:
    text = str(value).strip()
    if "|" in text or not text.isprintable():
        raise Refused(f"{entity}: {text!r} may hold no | and nothing that does not print")
    return text


def _native(entry: Mapping[str, object], kind: str, called: str = "") -> dict[str, str]:
    """Native keys by the name that `show` has for them."""
    who = f"{called or ('user' if kind == 'association' else kind)} {entry['name']}"
    known = {
        k: key
        for k, key in KEYS[kind].items()
        if k not in ("Parent", "Organization") and (k != "Description" or kind == "qos")
    }
    spelled = {word.lower(): key for key in known.values() for word in (key.name, *key.aliases)}
    given = entry.get("parameters") or {}
    if not isinstance(given, dict):
        raise Refused(f"{who}: its parameters are no mapping of keys to values")
    found: dict[str, str] = {}
    for word, value in given.items():
        key = spelled.get(str(word).lower())
        if key is None:
            raise Refused(f"{who}: sacctmgr has no {word}; it has {', '.join(sorted(known))}")
        if key.name in found:
            raise Refused(f"{who}: {key.name} is there twice, the second time as {word}")
        found[key.name] = _value(key, value, f"{who}: {word}")
    return found


def _value(key: Key, value: object, who: str) -> str:
    """One value as a text; empty where it is to be set back."""
    if value is None or value == "omit":
        return ""
    if isinstance(value, dict):
        text = ",".join(f"{name}={number}" for name, number in value.items())
    elif isinstance(value, list):
        text = ",".join(str(part) for part in value)
    else:
        text = str(value).strip()
    if isinstance(value, bool):
        raise Refused(f"{who}: {value} is no value; put the word in quotes")
    if key.read in (_minutes, duration_s) and isinstance(value, (int, float)) and value != -1:
        raise Refused(
            f"{who}: put the time in quotes; without them YAML reads 24:00:00 as the number 86400 (here {value})"
        )
    if "|" in text or not text.isprintable():
        raise Refused(f"{who}: {text!r} may hold no | and nothing that does not print")
    _understood(key, text, who)
    return "" if key.is_unset(text) else text


def _understood(key: Key, text: str, who: str) -> None:
    try:
        key.meaning(text)
    except ValueError as error:
        raise Refused(f"{who}: {error}") from None


def check_references(wanted: Mapping[Entity, Texts], state: State, exclusive: Sequence[str]) -> None:
    """Refused where something refers to what will not be there. `exclusive` are the kinds of which only what is wanted stays."""
    for entity, texts in wanted.items():
        accounts = {entity.account} if entity.account else {texts.get("Parent", "")}
        qos = {name.lstrip("+-") for key in ("QOS", "DefaultQOS", "Preempt") for name in names(texts.get(key, ""))}
        needed = {Entity("account", name) for name in accounts if name} | {Entity("qos", name) for name in qos}
        for other in sorted(needed - set(wanted)):
            if (other.kind, other.name) in KEPT:
                continue
            if other not in state.entities or other in state.only_elsewhere:
                raise Refused(f"{entity}: {other} is neither in the variables nor in the accounting")
            if other.kind in exclusive:
                raise Refused(f"{entity}: {other} is not in the variables, so exclusive would remove it")
    tree = _tree(wanted, state)
    for entity in wanted:
        if entity.kind == "account":
            _depth(tree, entity.name)


def _tree(wanted: Mapping[Entity, Texts], state: State) -> dict[str, str]:
    """Each account's parent as it will be."""
    entities = {**state.entities, **wanted}
    return {entity.name: texts.get("Parent", "") for entity, texts in entities.items() if entity.kind == "account"}


def _depth(tree: Mapping[str, str], account: str) -> int:
    """How many accounts are above this one. Refused where that goes round in a circle, which hangs slurmdbd 24.11."""
    chain = [account]
    while tree.get(chain[-1]):
        chain.append(tree[chain[-1]])
        if chain[-1] in chain[:-1]:
            raise Refused(f"account {account}: its parents go round in a circle ({' below '.join(chain)})")
    return len(chain) - 1


# --- the plan between the two -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One call of sacctmgr. Steps that are alike but for the names are made in one."""

    verb: str
    kind: str
    names: tuple[str, ...]
    where: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        middle = ["set"] if self.verb == "modify" else []
        return ["-i", self.verb, self.kind, "name=" + ",".join(self.names), *self.where, *middle, *self.settings]


@dataclass(frozen=True)
class Change:
    """Of one entity: the values that differ, before and after. None where it is not there at all."""

    entity: Entity
    before: Texts | None
    after: Texts | None


@dataclass
class Plan:
    """What to do, in this order, and what is told of it."""

    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    removed: list[Entity] = field(default_factory=list)


def make_plan(
    cluster: str, wanted: Mapping[Entity, Texts], state: State, managed: Sequence[str], exclusive: bool
) -> Plan:
    """From the state to what is wanted. `managed` are the kinds of which the variables speak at all."""
    plan = Plan()
    if not state.registered:
        plan.steps.append(Step("add", "cluster", (cluster,)))
    wanted = {_spelled(entity, state): texts for entity, texts in wanted.items()}
    targets = {entity: _target(entity, texts, state, plan, exclusive) for entity, texts in wanted.items()}
    _plan_qos(targets, state, plan)
    tree = _tree(wanted, state)
    depths = {entity: _depth(tree, entity.name) for entity in targets if entity.kind == "account"}
    for depth in sorted(set(depths.values())):
        level = [entity for entity in depths if depths[entity] == depth]
        plan.steps += _merged(
            step for entity in level for step in _account_steps(cluster, entity, targets[entity], state)
        )
    _plan_users(cluster, targets, state, plan)
    _plan_removal(cluster, targets, state, plan, managed, exclusive)
    return plan


def _spelled(entity: Entity, state: State) -> Entity:
    """A user as the database spells it: in lower case, unless slurmdbd keeps case (PreserveCaseUser)."""
    if entity.kind not in ("user", "association") or Entity("user", entity.name) in state.entities:
        return entity
    lower = replace(entity, name=entity.name.lower())
    return lower if Entity("user", lower.name) in state.entities else entity


def _target(entity: Entity, texts: Texts, state: State, plan: Plan, exclusive: bool) -> Texts:
    """What an entity is to have that differs; notes it, and what is set without being wanted."""
    have, keys = state.entities.get(entity, {}), KEYS[entity.kind]
    left_alone = (*LEFT_ALONE, "QOS") if entity == Entity("account", "root") else LEFT_ALONE  # which everybody inherits
    extra = {k: v for k, v in have.items() if k not in (*texts, *left_alone) and not keys[k].is_unset(v)}
    plan.drift += [f"{entity}: {key}={text}" for key, text in extra.items()]
    target = {**texts, **(dict.fromkeys(extra, "") if exclusive else {})}
    different = {k: v for k, v in target.items() if keys[k].meaning(v) != keys[k].meaning(have.get(k, ""))}
    if entity not in state.entities or entity in state.only_elsewhere:
        plan.changes.append(Change(entity, None, {k: v for k, v in target.items() if v}))
    elif different:
        plan.changes.append(Change(entity, {k: have.get(k, "") for k in different}, different))
    return different


def _settings(entity: Entity, different: Texts, state: State) -> list[tuple[str, ...]]:
    """What to set, most often in one go. QOS with + and - are on top of the parent's only where there are none of its own, and
    22.05 does not put a plain list in their place: so they are cleared first.
    """
    have, keys = state.entities.get(entity, {}), KEYS[entity.kind]
    first: list[str] = []
    current = dict(have)
    signed = any(name[0] in "+-" for name in names(have.get("QOS", "")) | names(different.get("QOS", "")))
    if signed and have.get("QOS") and different.get("QOS"):
        first.append("QOS=")
        current["QOS"] = ""
        if have.get("DefaultQOS"):  # it is refused where it is none of the QOS
            first.append("DefaultQOS=-1")
            different = {"DefaultQOS": have["DefaultQOS"], **different}
            current["DefaultQOS"] = ""
    left = {k: v for k, v in different.items() if keys[k].meaning(v) != keys[k].meaning(current.get(k, ""))}
    then = tuple(keys[k].settings(current.get(k, ""), v) for k, v in left.items())
    return [part for part in (tuple(first), then) if part]


def _merged(steps: Iterable[Step]) -> list[Step]:
    """Steps that are alike but for the names, in one; their order is that of the first."""
    found: dict[Step, list[str]] = {}
    for step in steps:
        found.setdefault(replace(step, names=()), []).extend(step.names)
    return [replace(step, names=tuple(members)) for step, members in found.items()]


def _plan_qos(targets: Mapping[Entity, Texts], state: State, plan: Plan) -> None:
    """New ones first; one that preempts another is told so once both are there."""
    there = {entity.name for entity in state.of("qos")}
    adding, later = [], []
    for entity, different in targets.items():
        if entity.kind != "qos":
            continue
        if entity.name in there:
            later += [Step("modify", "qos", (entity.name,), (), part) for part in _settings(entity, different, state)]
            continue
        waits = {k: v for k, v in different.items() if k == "Preempt" and not names(v) <= there}
        now = {k: v for k, v in different.items() if k not in waits}
        adding += [Step("add", "qos", (entity.name,), (), part) for part in _settings(entity, now, state) or [()]]
        later += [Step("modify", "qos", (entity.name,), (), part) for part in _settings(entity, waits, state)]
    plan.steps += _merged(adding) + _merged(later)


def _account_steps(cluster: str, entity: Entity, different: Texts, state: State) -> list[Step]:
    """An account is moved only after all that will be above it: below one of its own it would hang slurmdbd 24.11."""
    where = (f"cluster={cluster}",)
    if entity.name == "root" or (entity in state.entities and entity not in state.only_elsewhere):
        return [Step("modify", "account", (entity.name,), where, part) for part in _settings(entity, different, state)]
    of_account = {k: v for k, v in different.items() if k in ("Description", "Organization", "Flags")}
    at_once = {k: v for k, v in different.items() if entity not in state.entities or k not in of_account}
    (settings,) = _settings(entity, at_once, state) or [()]
    steps = [Step("add", "account", (entity.name,), where, settings)]
    if entity in state.entities and of_account:  # 'add' of an account that other clusters have leaves these as they are
        steps += [
            Step("modify", "account", (entity.name,), where, part) for part in _settings(entity, of_account, state)
        ]
    return steps


def _plan_users(cluster: str, targets: Mapping[Entity, Texts], state: State, plan: Plan) -> None:
    adding, changing = [], []
    for user, different in targets.items():
        if user.kind == "user":
            mine = {e: t for e, t in targets.items() if e.kind == "association" and e.name == user.name}
            adding += _user_additions(cluster, user, different, mine, state)
            changing += _user_changes(cluster, user, different, mine, state)
    plan.steps += _merged(adding) + _merged(changing)


def _user_additions(
    cluster: str, user: Entity, different: Texts, mine: Mapping[Entity, Texts], state: State
) -> list[Step]:
    """Associations that are not there, those that are alike in one step, the one with the default account first."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, texts in mine.items():
        if place not in state.entities:
            (settings,) = _settings(place, texts, state) or [()]
            alike.setdefault(settings, []).append(place.account)
    default, is_new = different.get("DefaultAccount", ""), user not in state.entities
    own = () if not is_new else tuple(f"{k}={v}" for k, v in different.items() if v)
    if not is_new and user in state.only_elsewhere:
        own = (f"DefaultAccount={default}",)
    steps = []
    for settings, accounts in sorted(alike.items(), key=lambda item: default not in item[1]):
        places = (f"account={','.join(accounts)}", f"cluster={cluster}")
        steps.append(Step("add", "user", (user.name,), places, (*own, *settings)))
        own = ()
    return steps


def _user_changes(
    cluster: str, user: Entity, different: Texts, mine: Mapping[Entity, Texts], state: State
) -> list[Step]:
    steps = []
    if user in state.entities and "AdminLevel" in different:
        steps.append(
            Step("modify", "user", (user.name,), (), _settings(user, {"AdminLevel": different["AdminLevel"]}, state)[0])
        )
    if user in state.entities and user not in state.only_elsewhere and "DefaultAccount" in different:
        steps.append(
            Step(
                "modify",
                "user",
                (user.name,),
                (f"cluster={cluster}",),
                (f"DefaultAccount={different['DefaultAccount']}",),
            )
        )
    for place, texts in mine.items():
        if place in state.entities:
            where = _association_where(cluster, place, state)
            steps += [Step("modify", "user", (user.name,), where, part) for part in _settings(place, texts, state)]
    return steps


def _association_where(cluster: str, place: Entity, state: State) -> tuple[str, ...]:
    where = (f"account={place.account}", f"cluster={cluster}")
    beside = any(e.name == place.name and e.account == place.account and e.partition for e in state.of("association"))
    return (*where, f"partition={place.partition}" if place.partition else 'partition=""') if beside else where


def _plan_removal(
    cluster: str, targets: Mapping[Entity, Texts], state: State, plan: Plan, managed: Sequence[str], exclusive: bool
) -> None:
    """Users first, then what is left of associations, accounts with all below them in one step, QOS last."""
    gone = [e for e in sorted(state.entities) if e not in targets and _is_drift(e, targets, state, managed)]
    plan.drift += [str(entity) for entity in gone]
    if not exclusive:
        return
    plan.removed = [entity for entity in gone if entity.kind != "qos" or entity not in state.shared]
    plan.changes += [Change(entity, state.entities[entity], None) for entity in plan.removed]
    plan.removed.sort(
        key=lambda entity: entity not in state.shared
    )  # an account takes all below it along, here alone or everywhere
    here_alone = [e for e in plan.removed if e.kind == "user" and e in state.shared]
    for of_default in (False, True):
        plan.steps += _merged(step for user in here_alone for step in _leaving(cluster, user, state, of_default))
    for kind in ("user", "association", "account", "qos"):
        chosen = [entity for entity in plan.removed if entity.kind == kind and entity not in here_alone]
        plan.steps += _merged(_removal(cluster, entity, state) for entity in chosen)


def _leaving(cluster: str, user: Entity, state: State, of_default: bool) -> list[Step]:
    """A user who stays at other clusters leaves this one, the default account last: 22.05 refuses to remove all at once."""
    default = state.entities[user].get("DefaultAccount", "")
    places = {
        e.account for e in state.of("association") if e.name == user.name and (e.account == default) == of_default
    }
    where = (f"account={','.join(sorted(places))}", f"cluster={cluster}")
    return [Step("delete", "user", (user.name,), where)] if places else []


def _is_drift(entity: Entity, targets: Mapping[Entity, Texts], state: State, managed: Sequence[str]) -> bool:
    """Whether something that is not named is of any concern: not where it is kept, of another cluster, or goes with its user."""
    kind = "user" if entity.kind == "association" else entity.kind
    if kind not in managed or (kind, entity.name) in KEPT:
        return False
    if entity.kind == "association":
        return Entity("user", entity.name) in targets
    return not (entity in state.only_elsewhere and entity in state.shared)


def _removal(cluster: str, entity: Entity, state: State) -> Step:
    if entity.kind == "association":
        return Step("delete", "user", (entity.name,), _association_where(cluster, entity, state))
    where = (f"cluster={cluster}",) if entity in state.shared and entity.kind != "qos" else ()
    return Step("delete", entity.kind, (entity.name,), where)


def in_the_way(removed: Sequence[Entity], queue: str) -> list[str]:
    """What is to be removed and has jobs that run or wait; `queue` has lines of JOB|ACCOUNT|USER|QOS."""
    jobs = [line.split("|") for line in queue.splitlines() if line.count("|") == 3]
    found = []
    for entity in removed:
        ids = [job for job, account, user, qos in jobs if _concerns(entity, account, user, qos)]
        if ids:
            found.append(
                f"{entity} (job{'s' if len(ids) > 1 else ''} {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})"
            )
    return found


def _concerns(entity: Entity, account: str, user: str, qos: str) -> bool:
    if entity.kind == "association":
        return (entity.name, entity.account) == (user, account)
    return entity.name == {"account": account, "user": user, "qos": qos}[entity.kind]


def as_text(changes: Sequence[Change], after: bool) -> str:
    """One side of the difference, to be read by people."""
    lines = []
    for change in changes:
        texts = change.after if after else change.before
        if texts is None:
            continue
        lines.append(f"{change.entity}:")
        whole = change.before is None or change.after is None
        shown = {k: v for k, v in texts.items() if v and not (whole and KEYS[change.entity.kind][k].is_unset(v))}
        lines += [f"  {key}: {text}" for key, text in shown.items()]
        lines += [f"  {key}: (not set)" for key in texts if not whole and not texts[key]]
    return "".join(f"{line}\n" for line in lines)


# --- the module -------------------------------------------------------------------------------------------------------------------


def run(*argv: str) -> str:
    """What a program printed. Refused, in its words, where it failed; FileNotFoundError where it is not installed."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Refused(
            f"{' '.join(argv)}: no end after {TIMEOUT_S} s; is slurmdbd busy? (journalctl -u slurmdbd)"
        ) from None
    if done.returncode:
        said = "\n".join(filter(None, (done.stderr.strip(), done.stdout.strip()))) or f"exit status {done.returncode}"
        raise Refused(f"{_quoted(argv)}: {said}{_advice(said)}")
    return done.stdout


def _advice(said: str) -> str:
    if re.search(r"talking to the database|persistent connection|PersistInit|Connection refused", said):
        return "\nslurmdbd does not answer: systemctl status slurmdbd on its host"
    if "no TRES known" in said:
        return "\nAccountingStorageTRES of slurm.conf names the TRES that can be limited; slurmctld tells slurmdbd when it starts"
    return ""


def _quoted(argv: Sequence[str]) -> str:
    """To be read, and pasted into a shell."""
    return " ".join(
        word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'" for word in argv
    )


def read_state(cluster: str) -> State:
    return parse_state(cluster, {name: run("sacctmgr", "-nP", *query) for name, query in QUERIES.items()})


def look(module: AnsibleModule) -> Plan:
    """What is to be done, of what is there now."""
    params = module.params
    managed = [
        kind for kind, key in (("qos", "qos"), ("account", "accounts"), ("user", "users")) if params[key] is not None
    ]
    wanted = parse_wanted(params)
    try:
        state = read_state(params["cluster"])
    except FileNotFoundError:
        if not module.check_mode:
            raise Refused("sacctmgr is not installed on this host") from None
        # a host that is yet to be provisioned
        return make_plan(params["cluster"], wanted, State(), managed, exclusive=False)
    check_references(wanted, state, managed if params["exclusive"] else [])
    return make_plan(params["cluster"], wanted, state, managed, params["exclusive"])


def look_for_jobs(cluster: str, plan: Plan) -> None:
    """Refused where jobs are in the way of a removal."""
    if not plan.removed:
        return
    queue = run("squeue", f"--clusters={cluster}", "--all", "--noheader", "--format=%i|%a|%u|%q")
    found = in_the_way(plan.removed, queue)
    if found:
        raise Refused(f"nothing was changed, since jobs run or wait of what is to be removed: {'; '.join(found)}")


def apply(module: AnsibleModule, plan: Plan, done: list[str]) -> None:
    """Step by step, noted in `done`; then looks again whether all of it was taken."""
    for step in plan.steps:
        run("sacctmgr", *step.argv)
        done.append(_quoted(["sacctmgr", *step.argv]))
    if done:
        left = look(module).steps
        if left:
            raise Refused(
                "sacctmgr took everything, and still differs: " + "; ".join(_quoted(step.argv) for step in left)
            )


def main() -> None:
    """The module's entry."""
    entry = {"name": {"type": "str", "required": True}, "parameters": {"type": "dict"}}
    text = {"type": "str"}
    account = {**entry, "parent": text, "description": text, "organization": text}
    user = {
        **entry,
        "accounts": {"type": "list", "elements": "raw", "required": True},
        "default_account": text,
        "admin_level": text,
    }
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "required": True},
            "qos": {"type": "list", "elements": "dict", "options": entry},
            "accounts": {"type": "list", "elements": "dict", "options": account},
            "users": {"type": "list", "elements": "dict", "options": user},
            "exclusive": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    plan, done = Plan(), []  # type: tuple[Plan, list[str]]
    try:
        plan = look(module)
        look_for_jobs(module.params["cluster"], plan)
        if not module.check_mode:
            apply(module, plan, done)
    except (Refused, OSError) as error:
        before = "".join(f"\n  {command}" for command in done)
        before = f"\ndone before that:{before}" if done else ""
        module.fail_json(msg=f"{error}{before}", changed=bool(done), commands=done, drift=plan.drift)
    if plan.drift and not module.params["exclusive"]:
        module.warn("in the accounting and not in the variables, left as it is: " + "; ".join(plan.drift))
    module.exit_json(
        changed=bool(plan.steps),
        commands=[_quoted(["sacctmgr", *step.argv]) for step in plan.steps],
        drift=plan.drift,
        diff={"before": as_text(plan.changes, after=False), "after": as_text(plan.changes, after=True)},
    )


if __name__ == "__main__":
    main()
