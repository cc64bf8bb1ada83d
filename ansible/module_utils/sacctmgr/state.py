"""What slurmdbd holds of a cluster: from what sacctmgr prints to entities and their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.sacctmgr.keys import ASSOCIATION_KEYS, QOS_KEYS, names


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
