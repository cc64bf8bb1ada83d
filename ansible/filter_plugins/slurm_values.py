"""From the variables of a cluster to what the templates in `slurm/conf/` read. Pure: nothing is asked of any host.

The variables are those of `roles/slurm/meta/argument_specs.yml`. Keys and values of the result are Slurm's own; a key whose value is None
is left out of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ClusterShell.NodeSet import NodeSet, NodeSetParseError

Settings = dict[str, "str | None"]
Variables = Mapping[str, Any]

OMIT = "omit"
HEADER = "Written by Ansible from the variables of this cluster; changes made here are lost at its next run."
STATE = "/var/lib/slurm/slurmctld"
KEYS = "/etc/slurm"
# where each is known from: slurm.conf(5), gres.conf(5) and the release notes
AUTH_SLURM_SINCE = (23, 11)
REST_SINCE = (24, 5)
TOPOLOGY_BLOCK_SINCE = (23, 11)
TOPOLOGY_YAML_SINCE = (25, 5)
DETECT_SINCE = {"nvml": (20, 2), "rsmi": (20, 11), "oneapi": (23, 2), "nrt": (23, 11), "nvidia": (24, 11)}
SLICED_BY_COUNT = ("shard", "mps")
HOOKS = "/usr/local/libexec/westward"
# what slurm_health says when it says nothing; argument_specs.yml has the meaning of each
HEALTH: Mapping[str, Any] = {
    "filesystems": ["/tmp"],
    "free_percent": 5,
    "mounts": [],
    "devices": [],
    "clean": ["/tmp", "/dev/shm"],
}


class Refused(ValueError):
    """The variables contradict each other, or what the installed Slurm can do."""


def slurm_values(
    variables: Variables, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Variables], version: str
) -> dict[str, Any]:
    """What the templates are rendered from: cluster, controllers, settings, nodes, nodesets, partitions, gres, cgroup, dbd, topology, fake_gpus,
    health, hooks (the directory of slurm/hooks on a host).

    Args:
        variables: those of the cluster.
        groups: the inventory's groups, each with its hosts.
        hostvars: variables and facts of each host.
        version: Slurm's, as `24.11.5`.

    Raises:
        Refused: they cannot be meant; the message names the variable.
    """
    return _Cluster(variables, groups, hostvars, release_of(version)).values()


def release_of(version: str) -> tuple[int, int]:
    """(24, 11) of `24.11.5`, however the packaging decorates it.

    Raises:
        Refused: there is no version in it.
    """
    found = re.search(r"(\d{2})\.(\d{2})\b", version)
    if not found:
        raise Refused(f"'{version}' is no version of Slurm: is the package index of the host up to date?")
    return int(found[1]), int(found[2])


class _Cluster:
    """One cluster's variables, with the inventory they stand in."""

    def __init__(
        self,
        variables: Variables,
        groups: Mapping[str, Sequence[str]],
        hostvars: Mapping[str, Variables],
        release: tuple[int, int],
    ) -> None:
        self.variables, self.groups, self.hostvars, self.release = variables, groups, hostvars, release
        self.nodegroups: Sequence[Variables] = variables["slurm_nodegroups"]
        self.auth = str(variables.get("slurm_auth") or "munge")
        self.rest = bool(variables.get("slurm_rest", True)) and release >= REST_SINCE
        # a node that does not find its prolog is drained, and nodes that are not in the inventory are not ours to install it on
        everywhere = not any(group.get("nodes") for group in self.nodegroups)
        self.health = {"enabled": everywhere, **HEALTH, **(variables.get("slurm_health") or {})}
        self._check()

    def values(self) -> dict[str, Any]:
        settings = _overridden(self._settings(), self.variables.get("slurm_config"))
        return {
            "cluster": self.variables["slurm_cluster_name"],
            "controllers": [self._address(host) for host in self.groups.get("slurm_controller", ())],
            "settings": settings,
            "nodes": [line for group in self.nodegroups for line in self._node_lines(group)],
            "nodesets": [_named(nodeset) for nodeset in self.variables.get("slurm_nodesets") or ()],
            "partitions": [self._partition(partition) for partition in self.variables["slurm_partitions"]],
            "gres": [*(line for group in self.nodegroups for line in self._gres(group)), *self._further_gres()],
            "cgroup": _overridden(self._cgroup(), self.variables.get("slurm_cgroup_config")),
            "dbd": _overridden(self._dbd(), self.variables.get("slurm_dbd_config")),
            "topology": self._topology(),
            "fake_gpus": {group["name"]: list(_fake_gpus(group)) for group in self.nodegroups},
            "health": {
                **self.health,
                "nodegroups": {group["name"]: list(self._health_lines(group)) for group in self.nodegroups},
            },
            "configless": "enable_configless" in str(settings.get("SlurmctldParameters")),
            "rest": self.rest,
            "hooks": HOOKS,
            "header": HEADER,
        }

    def _check(self) -> None:
        if not self.groups.get("slurm_controller"):
            raise Refused("the inventory group 'slurm_controller' is empty: name at least one host in it")
        if self.auth == "slurm" and self.release < AUTH_SLURM_SINCE:
            raise Refused(
                f"slurm_auth: 'slurm' needs Slurm 23.11 or newer, and the hosts have {_dotted(self.release)}: use 'munge'"
            )
        known = {group["name"] for group in self.nodegroups}
        for partition in self.variables["slurm_partitions"]:
            for name in partition.get("nodegroups") or ():
                if name not in known:
                    raise Refused(
                        f"slurm_partitions: partition '{partition['name']}' names the node group '{name}', which is not in"
                        f" slurm_nodegroups ({', '.join(sorted(known))})"
                    )
        for group in self.nodegroups:
            self._check_accelerators(group)
        for key in ("filesystems", "mounts", "devices", "clean"):
            for path in self.health[key]:
                if not str(path).startswith("/") or "\n" in str(path):
                    raise Refused(f"slurm_health: {key}: {path!r} is no absolute path")

    def _check_accelerators(self, group: Variables) -> None:
        slicings = set()
        for chips in group.get("accelerators") or ():
            where = f"slurm_nodegroups: node group '{group['name']}', accelerator '{chips.get('type')}'"
            detect = chips.get("detect") or "files"
            if detect == "files" and not chips.get("files"):
                raise Refused(f"{where}: 'files' is missing: name the device files, or how they are detected")
            if detect in DETECT_SINCE and self.release < DETECT_SINCE[detect]:
                raise Refused(
                    f"{where}: AutoDetect={detect} needs Slurm {_dotted(DETECT_SINCE[detect])} or newer,"
                    f" and the hosts have {_dotted(self.release)}"
                )
            if detect == "nvidia" and chips.get("slicing") == "mig":
                raise Refused(f"{where}: AutoDetect=nvidia sees no MIG slices: use detect 'nvml' or 'files'")
            if chips.get("slicing") in SLICED_BY_COUNT and not chips.get("slices"):
                raise Refused(f"{where}: 'slices' is missing: how many are there on each node?")
            slicings.add(chips.get("slicing"))
        if slicings >= set(SLICED_BY_COUNT):
            raise Refused(f"slurm_nodegroups: node group '{group['name']}': shard and MPS exclude each other")

    # --- slurm.conf ------------------------------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        """Our defaults. slurm.conf(5) has the meaning of each key."""
        database = bool(self.groups.get("slurm_dbd"))
        names, types = self._gres_names()
        hooks = bool(self.health["enabled"])
        return {
            "SlurmUser": "slurm",
            "AuthType": f"auth/{self.auth}",
            "CredType": f"cred/{self.auth}",
            "AuthAltTypes": "auth/jwt" if self.rest else None,
            "AuthAltParameters": f"jwt_key={KEYS}/jwt_hs256.key" if self.rest else None,
            "SlurmctldParameters": "enable_configless",
            "StateSaveLocation": STATE,
            "SlurmdSpoolDir": "/var/lib/slurm/slurmd",
            "SlurmctldPidFile": "/run/slurmctld/slurmctld.pid",
            "SlurmdPidFile": "/run/slurm/slurmd.pid",
            "SlurmctldLogFile": "/var/log/slurm/slurmctld.log",
            "SlurmdLogFile": "/var/log/slurm/slurmd.log",
            "ProctrackType": "proctrack/cgroup",
            "TaskPlugin": "task/cgroup,task/affinity",
            "JobAcctGatherType": "jobacct_gather/cgroup",
            "PrologFlags": "Contain",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "GresTypes": ",".join(names) or None,
            "AccountingStorageType": "accounting_storage/slurmdbd" if database else None,
            "AccountingStorageHost": self._address(self.groups["slurm_dbd"][0]) if database else None,
            "AccountingStorageTRES": ",".join([f"gres/{name}" for name in names] + types) or None if database else None,
            "AccountingStorageEnforce": "associations,limits,qos"
            if database and self.variables.get("slurm_accounts")
            else None,
            "TopologyPlugin": f"topology/{self._topology_plugin()}" if self._topology_plugin() else None,
            "MpiDefault": self.variables.get("slurm_mpi_default"),
            "ReturnToService": "1",
            "RebootProgram": "/sbin/reboot",
            "HealthCheckProgram": f"{HOOKS}/health" if hooks else None,
            "HealthCheckInterval": "300" if hooks else None,
            # the nodes one after another within the interval, not all at once
            "HealthCheckNodeState": "ANY,CYCLE" if hooks else None,
            "Prolog": f"{HOOKS}/prolog" if hooks else None,
            "Epilog": f"{HOOKS}/epilog" if hooks else None,
            # a job that a node refuses is not at fault: it goes elsewhere, and waits for nobody to release it
            "SchedulerParameters": "nohold_on_prolog_fail" if hooks else None,
        }

    def _gres_names(self) -> tuple[list[str], list[str]]:
        """What goes into GresTypes, and the typed ones that are accounted: `gres/gpu:h100`."""
        names, types = set(), set()
        for chips in self._accelerators():
            names.add("gpu")
            if chips.get("slicing") in SLICED_BY_COUNT:
                names.add(chips["slicing"])
            if chips.get("type"):
                types.add(f"gres/gpu:{chips['type']}")
        names |= {line["name"] for line in self.variables.get("slurm_gres") or () if line.get("name")}
        return sorted(names), sorted(types)

    def _accelerators(self) -> Iterator[Variables]:
        for group in self.nodegroups:
            yield from group.get("accelerators") or ()

    def _node_lines(self, group: Variables) -> Iterator[dict[str, Any]]:
        """The group's nodes in one line; those with an address of their own in one line each."""
        hosts = self.groups.get(group["name"], ())
        settings = self._node_settings(group, hosts)
        plain = [self._node(host) for host in hosts if not self.hostvars[host].get("slurm_node_address")]
        if group.get("nodes"):
            plain.append(group["nodes"])
        if plain:
            yield {"name": _folded(plain), "settings": settings}
        for host in hosts:
            if address := self.hostvars[host].get("slurm_node_address"):
                yield {"name": self._node(host), "settings": {"NodeAddr": address, **settings}}

    def _node_settings(self, group: Variables, hosts: Sequence[str]) -> Settings:
        given = _overridden({}, group.get("parameters"))
        gres = []
        for chips in group.get("accelerators") or ():
            gres.append(":".join(["gpu", *([chips["type"]] if chips.get("type") else []), str(chips["count"])]))
            if chips.get("slicing") in SLICED_BY_COUNT:
                gres.append(f"{chips['slicing']}:{chips['slices']}")
        return {
            **(
                {}
                if {"CPUs", "Sockets", "Boards", "CoresPerSocket", "Procs"} & set(given)
                else self._cpus(group, hosts)
            ),
            **({} if "RealMemory" in given else self._memory(group, hosts)),
            "Gres": ",".join(gres) or None,
            "Feature": ",".join(group.get("features") or ()) or None,
            **given,
        }

    def _cpus(self, group: Variables, hosts: Sequence[str]) -> Settings:
        """Sockets, cores and threads as the facts of its hosts say."""
        found = {
            tuple(str(self._fact(group, host, fact, "CPUs")) for fact in ("count", "cores", "threads_per_core"))
            for host in hosts
        }
        if len(found) > 1:
            raise Refused(
                f"slurm_nodegroups: the hosts of node group '{group['name']}' have unlike processors: make groups of those"
                " that are alike, or give 'CPUs' in its parameters"
            )
        return dict(zip(("Sockets", "CoresPerSocket", "ThreadsPerCore"), found.pop(), strict=True)) if found else {}

    def _fact(self, group: Variables, host: str, fact: str, key: str) -> Any:
        facts = self.hostvars[host].get("ansible_facts") or {}
        name = "memtotal_mb" if fact == "memory" else f"processor_{fact}"
        if name not in facts:
            raise Refused(
                f"slurm_nodegroups: node group '{group['name']}': the facts of host '{host}' are not known; let the run"
                f" reach all hosts, or give '{key}' in its parameters"
            )
        return facts[name]

    def _memory(self, group: Variables, hosts: Sequence[str]) -> Settings:
        """19 of 20 parts of the memory of its smallest host, in MiB, whole hundreds: what the kernel keeps differs from boot to boot."""
        found = [int(self._fact(group, host, "memory", "RealMemory")) for host in hosts]
        return {"RealMemory": str(min(found) * 19 // 20 // 100 * 100)} if found else {}

    def _partition(self, partition: Variables) -> dict[str, Any]:
        nodes = [self._nodes_of(name) for name in partition.get("nodegroups") or ()]
        if partition.get("nodes"):
            nodes.append(partition["nodes"])
        if not nodes:
            raise Refused(f"slurm_partitions: partition '{partition['name']}' has neither 'nodegroups' nor 'nodes'")
        for key, value in (partition.get("parameters") or {}).items():
            if key.lower() in ("maxtime", "defaulttime") and isinstance(value, int):
                raise Refused(
                    f"slurm_partitions: partition '{partition['name']}': {key} is the number {value}: write it in quotes,"
                    " since YAML takes a bare 24:00:00 for 86400"
                )
        return {
            "name": partition["name"],
            "settings": {"Nodes": _folded(nodes), **_overridden({}, partition.get("parameters"))},
        }

    def _nodes_of(self, group_name: str) -> str:
        group = next(group for group in self.nodegroups if group["name"] == group_name)
        nodes = [self._node(host) for host in self.groups.get(group_name, ())]
        if group.get("nodes"):
            nodes.append(group["nodes"])
        if not nodes:
            raise Refused(
                f"slurm_nodegroups: node group '{group_name}' has no hosts: fill the inventory group of that name, or give 'nodes'"
            )
        return _folded(nodes)

    def _node(self, host: str) -> str:
        return str(self.hostvars[host].get("slurm_node_name") or host)

    def _address(self, host: str) -> str:
        """A controller as `SlurmctldHost` has it: its name, and its address in parentheses where that is another one."""
        address = self.hostvars[host].get("slurm_node_address")
        return f"{self._node(host)}({address})" if address else self._node(host)

    # --- gres.conf -------------------------------------------------------------------------------------------------------

    def _gres(self, group: Variables) -> Iterator[dict[str, Any]]:
        chips = list(group.get("accelerators") or ())
        if not chips:
            return
        nodes = self._nodes_of(group["name"])
        detected = {_autodetect(one) for one in chips} - {None}
        if len(detected) > 1:
            raise Refused(
                f"slurm_nodegroups: node group '{group['name']}' is detected in several ways: {sorted(map(str, detected))}"
            )
        if detected:
            yield {"nodes": nodes, "name": None, "settings": {"AutoDetect": detected.pop()}}
        for one in chips:
            if (one.get("detect") or "files") == "files":
                yield from _by_files(nodes, one)
            if one.get("slicing") in SLICED_BY_COUNT:
                yield {"nodes": nodes, "name": one["slicing"], "settings": {"Count": str(one["slices"])}}

    def _further_gres(self) -> Iterator[dict[str, Any]]:
        for line in self.variables.get("slurm_gres") or ():
            settings = _overridden({}, line.get("parameters"))
            yield {"nodes": line.get("nodes"), "name": line.get("name"), "settings": settings}

    def _health_lines(self, group: Variables) -> Iterator[str]:
        """What `slurm/hooks/health` looks for on each node of a group. Devices that are only believed in are not looked for."""
        memory = {
            key.lower(): value for key, value in self._node_settings(group, self.groups.get(group["name"], ())).items()
        }
        if memory.get("realmemory"):
            yield f"memory {memory['realmemory']}"
        chips = list(group.get("accelerators") or ())
        files = [file for one in chips for file in _device_files(one)]
        yield from (f"device {file}" for file in dict.fromkeys(files))
        cards = sum(bool(re.fullmatch(r"/dev/nvidia\d+", file)) for file in files)
        # of cards in slices nobody has said how many there are
        if cards and not any(one.get("slicing") == "mig" for one in chips):
            yield f"gpus {cards}"

    # --- the other files -------------------------------------------------------------------------------------------------

    def _cgroup(self) -> Settings:
        return {"ConstrainCores": "yes", "ConstrainRAMSpace": "yes", "ConstrainDevices": "yes"}

    def _dbd(self) -> Settings:
        """MariaDB on the same host lets the unix user slurm in by its socket, so there is no password."""
        hosts = self.groups.get("slurm_dbd") or [""]
        return {
            "AuthType": f"auth/{self.auth}",
            "AuthAltTypes": "auth/jwt" if self.rest else None,
            "AuthAltParameters": f"jwt_key={KEYS}/jwt_hs256.key" if self.rest else None,
            "DbdHost": self._node(hosts[0]) if hosts[0] else None,
            "DbdBackupHost": self._node(hosts[1]) if len(hosts) > 1 else None,
            "SlurmUser": "slurm",
            "PidFile": "/run/slurmdbd/slurmdbd.pid",
            "LogFile": "/var/log/slurm/slurmdbd.log",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "slurm",
            "StorageLoc": "slurm_acct_db",
            "PurgeEventAfter": "12month",
            "PurgeJobAfter": "36month",
            "PurgeResvAfter": "36month",
            "PurgeStepAfter": "12month",
            "PurgeSuspendAfter": "12month",
            "PurgeTXNAfter": "12month",
            "PurgeUsageAfter": "36month",
        }

    def _topology_plugin(self) -> str | None:
        return (self.variables.get("slurm_topology") or {}).get("plugin")

    def _topology(self) -> dict[str, Any] | None:
        wires = self.variables.get("slurm_topology") or {}
        if not wires:
            return None
        kind = "switches" if wires["plugin"] == "tree" else "blocks"
        if not wires.get(kind):
            raise Refused(f"slurm_topology: with plugin '{wires['plugin']}', '{kind}' is needed")
        if kind == "blocks" and self.release < TOPOLOGY_BLOCK_SINCE:
            raise Refused(
                f"slurm_topology: plugin 'block' needs Slurm {_dotted(TOPOLOGY_BLOCK_SINCE)} or newer,"
                f" and the hosts have {_dotted(self.release)}: use 'tree'"
            )
        lines = [{key: self._meant(str(value)) for key, value in line.items()} for line in wires[kind]]
        return {
            "plugin": wires["plugin"],
            "yaml": self.release >= TOPOLOGY_YAML_SINCE,
            "lines": lines,
            "block_sizes": list(wires.get("block_sizes") or ()),
        }

    def _meant(self, text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: self._nodes_of(match[1]), text)


def _autodetect(chips: Variables) -> str | None:
    """What gres.conf's AutoDetect says. Devices from fake_gpus.conf replace those of any plugin, so none is loaded for them."""
    detect = chips.get("detect") or "files"
    return {"files": None, "fake": "off"}.get(detect, detect)


def _by_files(nodes: str, chips: Variables) -> Iterator[dict[str, Any]]:
    files = chips["files"]
    for one in [files] if isinstance(files, str) else files:
        key = "MultipleFiles" if chips.get("slicing") == "mig" and "," in one else "File"
        yield {
            "nodes": nodes,
            "name": "gpu",
            "settings": {"Type": chips.get("type"), key: one, "Cores": chips.get("cores"), "Links": chips.get("links")},
        }


def _device_files(chips: Variables) -> Iterator[str]:
    """The files of a node group's devices, as far as they are known before the node is asked."""
    detect = chips.get("detect") or "files"
    if detect == "files":
        files = chips["files"]
        for one in [files] if isinstance(files, str) else files:
            yield from NodeSet(one)
    elif detect in ("nvml", "nvidia") and chips.get("slicing") != "mig":
        yield from (f"/dev/nvidia{number}" for number in range(chips["count"]))


def _fake_gpus(group: Variables) -> Iterator[str]:
    """The lines of fake_gpus.conf: type|cpus|cpu range|links|device file|id|flags. Slurm's own tests use that file; no manual names it."""
    chips = [one for one in group.get("accelerators") or () if one.get("detect") == "fake"]
    minor, total = 0, sum(one["count"] for one in chips)
    for one in chips:
        files = list(NodeSet(one["files"])) if one.get("files") else []
        for number in range(one["count"]):
            cores = str(one.get("cores") or "0")
            links = ",".join("-1" if other == minor else "0" for other in range(total))
            file = files[number] if number < len(files) else f"/dev/nvidia{minor}"
            # the environment's variables of jobs depend on whose chip it is: CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES
            vendor = "amd" if one["type"].startswith("mi") else "nvidia"
            yield f"{one['type']}|{_last_core(cores) + 1}|{cores}|{one.get('links') or links}|{file}|{minor}|{vendor}_gpu_env"
            minor += 1


def _last_core(cores: str) -> int:
    return max(int(number) for number in re.findall(r"\d+", cores))


def _named(line: Variables) -> dict[str, Any]:
    return {"name": line["name"], "settings": _overridden({}, line["parameters"])}


def _overridden(defaults: Settings, given: Variables | None) -> Settings:
    """The defaults with the user's keys in their place, whatever their case; `omit` leaves one out."""
    settings, spelled = dict(defaults), {key.lower(): key for key in defaults}
    for key, value in (given or {}).items():
        settings[spelled.get(key.lower(), key)] = _text(value)
    return settings


def _text(value: Any) -> str | None:
    if value is None or value == OMIT or str(value).startswith("__omit_place_holder__"):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _folded(nodes: Sequence[str]) -> str:
    """One host list, as short as it goes; ALL and names of node sets stay what they are."""
    if "ALL" in nodes:
        return "ALL"
    try:
        return str(NodeSet(",".join(nodes)))
    except NodeSetParseError as error:
        raise Refused(f"{', '.join(nodes)}: no host list: {error}") from error


def _dotted(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]:02}"


def _told(function: Any) -> Any:
    """A refusal in the form in which Ansible shows it."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Refused as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Any]:
        return {"slurm_values": _told(slurm_values)}
