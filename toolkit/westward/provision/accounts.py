"""The accounting of a cluster as `slurm_accounts` has it, and whether that says the same: by the module that would apply it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from westward.provision.ansiblecode import sacctmgr

Native = dict[str, Any]

_KINDS = ("qos", "account", "user")
# keys with a place of their own beside the parameters
_PLACED = {"account": ("Parent", "Description", "Organization"), "user": ("DefaultAccount", "AdminLevel")}


def queries() -> Mapping[str, Sequence[str]]:
    """What sacctmgr is asked, by name: each with an explicit list of fields."""
    found: Mapping[str, Sequence[str]] = sacctmgr("state").QUERIES
    return found


def accounts_of(cluster: str, outputs: Mapping[str, str]) -> Native:
    """`slurm_accounts` from what sacctmgr printed: QOS, the tree of accounts, and users of this cluster."""
    state = sacctmgr("state").parse_state(cluster, outputs)
    here = {entity: texts for entity, texts in state.entities.items() if entity not in state.only_elsewhere}
    found: Native = {
        "qos": [_qos(entity, texts) for entity, texts in here.items() if entity.kind == "qos"],
        "accounts": [_account(entity, texts) for entity, texts in here.items() if entity.kind == "account"],
        "users": [_user(entity, here) for entity in here if entity.kind == "user"],
    }
    found["accounts"] = [one for one in found["accounts"] if one != {"name": "root"}]
    return {key: [one for one in entries if one] for key, entries in found.items()}


def differences(cluster: str, outputs: Mapping[str, str], accounts: Mapping[str, Any]) -> list[str]:
    """What a run with those variables would change or report; nothing where they say the same."""
    wanted, state = sacctmgr("wanted").parse_wanted(accounts), sacctmgr("state").parse_state(cluster, outputs)
    plan = sacctmgr("plan").make_plan(cluster, wanted, state, _KINDS, exclusive=False)
    return [
        *(f"sacctmgr {' '.join(step.argv)}" for step in plan.steps),
        *(f"not in slurm_accounts: {text}" for text in plan.drift),
    ]


def _set(kind: str, texts: Mapping[str, str]) -> Native:
    """The keys that somebody set."""
    keys = sacctmgr("keys").KEYS[kind]
    return {
        key: text
        for key, text in texts.items()
        if key not in _PLACED.get(kind, ()) and text and not keys[key].is_unset(text)
    }


def _qos(entity: Any, texts: Mapping[str, str]) -> Native:
    return _with_parameters({"name": entity.name}, _set("qos", texts))


def _account(entity: Any, texts: Mapping[str, str]) -> Native:
    found: Native = {"name": entity.name}
    if entity.name != "root":
        if (parent := texts.get("Parent", "")) not in ("", "root"):
            found["parent"] = parent
        found |= {key.lower(): texts[key] for key in ("Description", "Organization") if texts.get(key)}
    return _with_parameters(found, _set("account", texts))


def _user(user: Any, here: Mapping[Any, Mapping[str, str]]) -> Native:
    """Empty for one that has an association of a partition alone: the variables have no word for these."""
    places = [
        _with_parameters({"name": entity.account}, _set("association", texts))
        for entity, texts in here.items()
        if entity.kind == "association" and entity.name == user.name and not entity.partition
    ]
    if not places:
        return {}
    default = here[user].get("DefaultAccount", "")
    places.sort(key=lambda place: place["name"] != default)
    found: Native = {
        "name": user.name,
        "accounts": [place["name"] if set(place) == {"name"} else place for place in places],
    }
    level = here[user].get("AdminLevel", "None")
    return found | ({"admin_level": level} if level != "None" else {})


def _with_parameters(found: Native, parameters: Native) -> Native:
    return found | ({"parameters": parameters} if parameters else {})
