"""What makes of one accounting the other: the calls of sacctmgr in their order, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible.module_utils.sacctmgr.keys import KEPT, KEYS, names
from ansible.module_utils.sacctmgr.state import Entity, State, Texts
from ansible.module_utils.sacctmgr.wanted import depth, tree

LEFT_ALONE = ("Description", "Organization", "Parent", "DefaultAccount")  # where they are not mentioned


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
    parents = tree(wanted, state)
    depths = {entity: depth(parents, entity.name) for entity in targets if entity.kind == "account"}
    for above in sorted(set(depths.values())):
        level = [entity for entity in depths if depths[entity] == above]
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
