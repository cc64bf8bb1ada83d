"""What the variables say of accounts, users and QOS; refused where that cannot be meant, with what is wrong and of whom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible.module_utils.sacctmgr import Refused
from ansible.module_utils.sacctmgr.keys import KEPT, KEYS, USER_KEYS, Key, names
from ansible.module_utils.sacctmgr.state import Entity, State, Texts

# sacctmgr splits at commas, expands [1-3] and takes + and - for operators
NAME = re.compile(r"[^\s,|=\"'`\[\]+-][^\s,|=\"'`\[\]]*")


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
    if key.is_time and isinstance(value, (int, float)) and value != -1:
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
    parents = tree(wanted, state)
    for entity in wanted:
        if entity.kind == "account":
            depth(parents, entity.name)


def tree(wanted: Mapping[Entity, Texts], state: State) -> dict[str, str]:
    """Each account's parent as it will be."""
    entities = {**state.entities, **wanted}
    return {entity.name: texts.get("Parent", "") for entity, texts in entities.items() if entity.kind == "account"}


def depth(parents: Mapping[str, str], account: str) -> int:
    """How many accounts are above this one. Refused where that goes round in a circle, which hangs slurmdbd 24.11."""
    chain = [account]
    while parents.get(chain[-1]):
        chain.append(parents[chain[-1]])
        if chain[-1] in chain[:-1]:
            raise Refused(f"account {account}: its parents go round in a circle ({' below '.join(chain)})")
    return len(chain) - 1
