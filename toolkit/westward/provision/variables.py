"""From a cluster's configuration to the variables and the inventory from which the roles write the same configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from westward.errors import InputError
from westward.provision import ansiblecode
from westward.provision.nodegroups import Native, NodeGroup, native, node_groups
from westward.slurm.conf import Line, Settings, written
from westward.slurm.confcluster import Configuration
from westward.slurm.confmeaning import defaults, is_list, renamed, spelled
from westward.slurm.hostlist import expand

_TIMES = ("MaxTime", "DefaultTime")
# what the roles have to know in any case: directories that they make, and the database
_ALWAYS_SAID = {"slurm.conf": ("StateSaveLocation", "SlurmdSpoolDir"), "slurmdbd.conf": ("StorageLoc",)}
# directories of many programs: the roles make those of Slurm its own
_SHARED = ("/", "/var", "/var/lib", "/var/spool", "/var/tmp", "/tmp")


@dataclass(frozen=True)
class Inventory:
    """What is written into an inventory directory.

    Attributes:
        groups: the four groups of hosts; of each host its variables.
        node_groups: node groups with their hosts, inside slurm_compute.
        variables: those of the cluster.
        notes: what its owner should know, each a sentence.
    """

    groups: Mapping[str, Mapping[str, Mapping[str, str]]]
    node_groups: Mapping[str, Mapping[str, Mapping[str, str]]]
    variables: Native
    notes: tuple[str, ...] = field(default=())

    def members(self) -> dict[str, list[str]]:
        """Each group with its hosts, as Ansible's `groups`."""
        found = {name: list(hosts) for name, hosts in (*self.groups.items(), *self.node_groups.items())}
        found["slurm_compute"] = [host for hosts in self.node_groups.values() for host in hosts]
        return found

    def hostvars(self) -> dict[str, dict[str, str]]:
        """Each host with its variables, as Ansible's `hostvars`."""
        found: dict[str, dict[str, str]] = {}
        for hosts in (*self.groups.values(), *self.node_groups.values()):
            for host, told in hosts.items():
                found.setdefault(host, {}).update(told)
        return found


def inventory_of(conf: Configuration, version: str) -> Inventory:
    """The inventory of that configuration. What the roles would set on their own, and it does not, is left out by `omit`.

    Raises:
        InputError: the roles have no words for a line.
    """
    settings = _complete("slurm.conf", conf.settings, conf)
    _refuse(conf, settings)
    groups = node_groups(conf)
    controllers = {name: _addressed(name, address) for name, address in conf.controllers}
    variables: Native = {
        "slurm_cluster_name": settings["ClusterName"],
        "slurm_auth": "slurm" if settings.get("AuthType", "").endswith("/slurm") else "munge",
        "slurm_rest": False,
        "slurm_mpi": False,
        "slurm_nodegroups": [group.variables for group in groups],
        "slurm_partitions": [_partition(conf, line, groups) for line in conf.slurm.of("PartitionName")],
        "slurm_nodesets": [_node_set(line) for line in conf.slurm.of("NodeSet")],
        "slurm_gres": [line for group in groups for line in group.gres],
        "slurm_topology": _topology(conf),
    }
    variables = {key: value for key, value in variables.items() if value not in ([], None)}
    bare = Inventory(
        {"slurm_controller": controllers, "slurm_dbd": _databases(conf), "slurm_login": {}},
        {group.name: group.hosts for group in groups},
        variables,
    )
    return _with_native(bare, conf, version, list(_notes(conf, groups)))


def _with_native(bare: Inventory, conf: Configuration, version: str, notes: list[str]) -> Inventory:
    """Native keys of each file, and `omit` for what the roles would write by default."""
    # with slurm_accounts there is one default more
    told = bare.variables | {"slurm_accounts": {"exclusive": False}}
    ours = ansiblecode.slurm_values().slurm_values(told, bare.members(), bare.hostvars(), version)
    native_keys = {
        "slurm_config": _native(_complete("slurm.conf", conf.settings, conf).without("ClusterName"), ours["settings"]),
        "slurm_cgroup_config": _native(conf.cgroup.settings, ours["cgroup"]),
    }
    if conf.dbd is not None:
        native_keys["slurm_dbd_config"] = _native(_complete("slurmdbd.conf", conf.dbd.settings, conf), ours["dbd"])
    return Inventory(bare.groups, bare.node_groups, bare.variables | native_keys, tuple(notes))


def _complete(name: str, settings: Settings, conf: Configuration) -> Settings:
    """With the default of what the roles have to know."""
    default = defaults(name, conf.release)
    return settings.over(Settings({key: default[key] for key in _ALWAYS_SAID[name]}))


def _refuse(conf: Configuration, settings: Settings) -> None:
    """
    Raises:
        InputError: what the roles have no words for, or could only take over with damage.
    """
    for line in conf.slurm.of("FrontendName"):
        raise InputError(f"{line.where}: FrontendName={line.name}: the roles have no front ends")
    for key, what in (("ClusterName", "cluster"), ("SlurmctldHost", "controller")):
        if key not in settings and not (key == "SlurmctldHost" and conf.controllers):
            raise InputError(f"slurm.conf names no {what}", f"set {key} there")
    if (user := settings.get("SlurmUser", "slurm")) not in ("slurm", "root"):
        raise InputError(f"SlurmUser is {user}, and the roles' directories belong to slurm")
    for key in _ALWAYS_SAID["slurm.conf"]:
        if (path := settings[key].rstrip("/") or "/") in _SHARED:
            raise InputError(
                f"{key} is {path}, which other programs use too, and the roles would make it Slurm's own",
                "give Slurm a directory of its own there first",
            )


def _native(settings: Settings, ours: Mapping[str, str | None]) -> Native:
    own = {key.lower(): key for key in ours}
    found: Native = {own.get(key.lower(), spelled(key)): _value(key, text) for key, text in settings.items()}
    return found | {key: "omit" for key, text in ours.items() if text is not None and key not in settings}


def _value(key: str, text: str) -> Any:
    if is_list(key) and text.count(",") > 1 and not set(text) & set("[] \"'#\\"):
        return text.split(",")
    return native(key, text)


def _databases(conf: Configuration) -> dict[str, dict[str, str]]:
    """Hosts of slurmdbd; none where its configuration is not known, so that nobody writes it anew."""
    if conf.dbd is None:
        return {}
    settings, primary = conf.settings, conf.controllers[0] if conf.controllers else ("localhost", "localhost")
    hosts = [settings.get("AccountingStorageHost", "localhost"), settings.get("AccountingStorageBackupHost", "")]
    names = [primary[0] if host in ("localhost", primary[1]) else host for host in hosts if host]
    return {name: _addressed(*primary) if name == primary[0] else {} for name in names}


def _addressed(name: str, address: str) -> dict[str, str]:
    return {} if name == address else {"slurm_node_address": address, "ansible_host": address}


def _partition(conf: Configuration, line: Line, groups: Iterable[NodeGroup]) -> Native:
    settings = renamed("PartitionName", line.settings)
    nodes = settings.get("Nodes", "")
    members = conf.members(nodes)
    inside = [group.name for group in groups if set(group.nodes) <= members]
    covered = {node for group in groups if group.name in inside for node in group.nodes}
    found: Native = {"name": line.name}
    if members and covered == members and nodes.upper() != "ALL" and not _node_sets(conf, nodes):
        found["nodegroups"] = inside
    else:
        found["nodes"] = nodes or '""'
    parameters = {spelled(key): _partition_value(key, text) for key, text in settings.without("Nodes").items()}
    return found | ({"parameters": parameters} if parameters else {})


def _partition_value(key: str, text: str) -> Any:
    return written(text) if key in _TIMES else _value(key, text)


def _node_sets(conf: Configuration, nodes: str) -> set[str]:
    return {line.name for line in conf.slurm.of("NodeSet")} & set(expand(nodes))


def _node_set(line: Line) -> Native:
    return {"name": line.name, "parameters": {spelled(key): written(text) for key, text in line.settings.items()}}


def _topology(conf: Configuration) -> Native | None:
    lines = conf.topology.lines
    if not lines:
        return None
    block = lines[0].kind == "BlockName"
    wires = [
        {"name": line.name}
        | {key.lower(): text for key, text in line.settings.items() if key.lower() in ("nodes", "switches")}
        for line in lines
    ]
    sizes = conf.topology.settings.get("BlockSizes")
    found: Native = {"plugin": "block" if block else "tree", "blocks" if block else "switches": wires}
    return found | ({"block_sizes": [int(size) for size in sizes.split(",")]} if sizes else {})


def _notes(conf: Configuration, groups: Iterable[NodeGroup]) -> Iterable[str]:
    yield "Slurm does not know which hosts are its login nodes: name them in 'slurm_login' of hosts.yml"
    if conf.dbd is None and conf.settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        yield (
            f"slurmdbd.conf is not known: 'slurm_dbd' has no host, so the roles leave slurmdbd at"
            f" {conf.settings.get('AccountingStorageHost', 'localhost')} alone; import with --sudo from that host to take it over"
        )
    for group in groups:
        if group.gres:
            yield f"node group '{group.name}': its gres.conf has no words in 'accelerators' and stands in slurm_gres"
        if not group.hosts:
            yield f"node group '{group.name}' ({group.variables['nodes']}) is no hosts: cloud or future nodes, or several slurmd on a host"
