"""What the doctor finds: nothing on a cluster that is well, and each fault by its name, its place and its remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.provision.clusters import ABSENT, CONFIG, KEY, NODE, PRIVATE, ROOM, RUNS, configuration, facts, look, site
from westward.provision import clusterchecks, doctor, hostchecks, netchecks, nodechecks
from westward.provision.clusterfacts import Facts, device_files, directories, key_files, targets
from westward.provision.finding import Finding, Verdict
from westward.provision.hostfacts import Clock, Disk
from westward.provision.jobtrial import Trial


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    """Where something is not well, and how much so."""
    return [(one.where, str(one.verdict)) for one in findings if one.verdict is not Verdict.OK]


def the_bad(findings: list[Finding]) -> Finding:
    (found,) = (one for one in findings if one.verdict is not Verdict.OK)
    return found


def test_a_cluster_that_is_well() -> None:
    found = doctor.diagnose(facts())
    assert bad(found) == []
    assert {one.check for one in found} >= {
        "reachable",
        "clock",
        "keys",
        "versions",
        "services",
        "slurmctld",
        "slurmdbd",
        "ports",
    }
    assert {one.check for one in found} >= {"names", "hostname", "disk", "nodes", "gres", "cgroup", "mpi", "jobs"}
    assert doctor.exit_code(facts(), found) == 0


def test_a_host_that_is_silent_is_named_and_the_others_are_looked_at() -> None:
    world = facts(silent={"n2": "no route to host"})
    world = replace(world, looks={name: one for name, one in world.looks.items() if name != "n2"})
    found = doctor.diagnose(world)
    assert ("n2", "failed") in bad(hostchecks.reached(world))
    assert [one.where for one in hostchecks.services(world)] == ["ctl,login,n1"]
    assert doctor.exit_code(world, found) == 4


@pytest.mark.parametrize(
    ("ahead_s", "bound_s", "auth", "verdict"),
    [
        (1.0, 0.1, "slurm", None),
        (5.0, 0.1, "slurm", "warning"),
        (61.0, 0.1, "slurm", "failed"),
        (61.0, 0.1, "munge", "warning"),
        (-400.0, 0.1, "munge", "failed"),
        (5.0, 4.0, "slurm", "unknown"),
    ],
)
def test_clocks(ahead_s: float, bound_s: float, auth: str, verdict: str | None) -> None:
    world = facts(said={"config": CONFIG.replace("auth/slurm", f"auth/{auth}")})
    world = replace(world, clocks={**world.clocks, "n2": Clock(ahead_s, bound_s)})
    assert bad(hostchecks.clock(world)) == ([("n2", verdict)] if verdict else [])


def test_a_clock_that_could_not_be_read_is_not_well() -> None:
    assert bad(hostchecks.clock(facts(clocks={"ctl": Clock(0, 0.1)}))) == [("login,n[1-2]", "unknown")]
    assert bad(hostchecks.clock(facts(clocks={}))) == [("ctl,login,n[1-2]", "unknown")]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "there is no"),
        (replace(PRIVATE, digest="other"), "is not that of most hosts"),
        (replace(PRIVATE, mode=0o644), "others may read"),
        (replace(PRIVATE, owner="nobody"), "belongs to nobody, not to slurm"),
    ],
)
def test_a_key_that_is_wrong_on_one_host(key: Any, words: str) -> None:
    found = the_bad(hostchecks.keys(facts({"n2": {"keys": {KEY: key}}})))
    assert found.where == "n2"
    assert words in found.found
    assert "d1" not in found.found + found.next_step


def test_keys_that_only_controllers_need() -> None:
    told = "AuthType = auth/slurm\nAuthAltParameters = jwt_key=/etc/slurm/jwt_hs256.key\n"
    assert key_files(facts(said={"config": told})) == {
        KEY: (),
        "/etc/slurm/jwt_hs256.key": ("slurm_controller", "slurm_dbd"),
    }


@pytest.mark.parametrize(
    ("server", "node", "verdict"),
    [
        ("24.11.5", "23.02.7", None),
        ("24.11.5", "22.05.8", "failed"),
        ("23.11.1", "22.05.8", None),
        ("23.11.1", "21.08.8", "failed"),
        ("26.05.5", "24.11.5", None),
        ("26.05.5", "24.05.1", "failed"),
        ("24.11.5", "25.05.1", "failed"),
    ],
)
def test_versions_within_what_slurm_speaks_to(server: str, node: str, verdict: str | None) -> None:
    same = {"versions": {"scontrol": server, "slurmctld": server, "slurmdbd": server}}
    other = {"versions": {"scontrol": node, "slurmd": node}}
    world = facts(
        {
            "ctl": same,
            "login": {"versions": {"scontrol": server}},
            "n1": other,
            "n2": {"versions": {"scontrol": server}},
        }
    )
    assert bad(hostchecks.versions(world)) == ([("n1", verdict)] if verdict else [])


def test_slurmdbd_is_never_the_older_one() -> None:
    found = the_bad(
        hostchecks.versions(
            facts({"ctl": {"versions": {"scontrol": "24.11.5", "slurmctld": "24.11.5", "slurmdbd": "23.11.4"}}})
        )
    )
    assert "slurmdbd 23.11 is older than slurmctld 24.11" in found.found


@pytest.mark.parametrize(
    ("host", "daemon", "unit", "verdict"),
    [
        ("ctl", "slurmdbd", replace(RUNS, active="failed", sub="failed"), "failed"),
        ("n1", "slurmd", ABSENT, "failed"),
        ("n1", "slurmd", replace(RUNS, file="disabled"), "warning"),
        ("login", "sackd", replace(RUNS, active="inactive", sub="dead"), "failed"),
        ("login", "slurmd", ABSENT, None),
    ],
)
def test_daemons(host: str, daemon: str, unit: Any, verdict: str | None) -> None:
    units = dict(look(host).units or {}) | {daemon: unit}
    found = hostchecks.services(facts({host: {"units": units}}))
    assert bad(found) == ([(host, verdict)] if verdict else [])
    if verdict:
        assert daemon in the_bad(found).found


def test_a_port_that_does_not_answer() -> None:
    found = the_bad(netchecks.ports(facts({"n1": {"ports": {"ctl:6817": "Connection refused"}}})))
    assert (found.where, found.found) == ("n1", "ctl:6817 does not answer: Connection refused")


def test_one_fault_of_many_hosts_is_one_row_with_one_next_step() -> None:
    key = {"keys": {KEY: replace(PRIVATE, mode=0o644)}}
    found = the_bad(hostchecks.keys(facts(dict.fromkeys(("n1", "n2"), key))))
    assert (found.where, found.found) == ("n[1-2]", f"others may read {KEY}: mode 644")
    missing = {"files": {"/dev/nvidia0": False}}
    found = the_bad(clusterchecks.accelerators(facts(dict.fromkeys(("n1", "n2"), missing))))
    assert found.where == "n[1-2]"
    assert "systemctl restart slurmd' on n[1-2]" in found.next_step
    assert "{where}" not in found.found + found.next_step
    gone = {"keys": {KEY: None}}
    found = the_bad(hostchecks.keys(facts(dict.fromkeys(("n1", "n2"), gone))))
    assert "--limit n1,n2'" in found.next_step


def test_who_is_asked_for_which_port() -> None:
    world = facts()
    of = {name: targets(world, world.site.hosts[name]) for name in ("ctl", "login", "n1", "n2")}
    assert of["ctl"] == ["ctl:6817", "ctl:6819", "n1:6818", "n2:6818"]
    assert of["login"] == ["ctl:6817", "ctl:6819"]
    assert (of["n1"], of["n2"]) == (["ctl:6817", "n2:6818"], ["ctl:6817", "n1:6818"])


def test_what_each_host_is_asked_for() -> None:
    world = facts()
    assert directories(world, world.site.hosts["ctl"]) == ["/var/log", "/tmp", "/shared/slurmctld"]
    assert directories(world, world.site.hosts["n1"]) == ["/var/log", "/tmp", "/var/lib/slurm/slurmd"]
    assert device_files(world, "n1") == [f"/dev/nvidia{number}" for number in range(4)]


@pytest.mark.parametrize(
    ("address", "verdict"), [(("10.9.9.9",), "failed"), (("127.0.1.1",), "failed"), ((), "failed")]
)
def test_a_name_that_means_something_else_on_one_host(address: tuple[str, ...], verdict: str) -> None:
    told = dict(look("login").addresses or {}) | {"n1": address}
    found = the_bad(netchecks.addresses(facts({"login": {"addresses": told}})))
    assert (found.where, found.verdict) == ("login", verdict)
    assert found.found.startswith("n1 means")


def test_a_host_may_call_itself_by_its_loopback() -> None:
    told = dict(look("n1").addresses or {}) | {"n1": ("127.0.1.1",)}
    assert bad(netchecks.addresses(facts({"n1": {"addresses": told}}))) == []


def test_an_address_that_slurm_has_is_what_counts() -> None:
    nodes = NODE.format("n1").replace("NodeAddr=n1", "NodeAddr=10.0.0.7") + NODE.format("n2")
    said = facts().said | {"nodes": nodes}
    assert {verdict for _, verdict in bad(netchecks.addresses(facts(said=said)))} == {"failed"}


def test_a_node_whose_hostname_is_not_its_name() -> None:
    found = the_bad(netchecks.node_names(facts({"n1": {"hostname": "rack7-03.example.org"}})))
    assert found.where == "n1"
    assert "called rack7-03, its node n1" in found.found
    assert "hostnamectl set-hostname n1" in found.next_step


@pytest.mark.parametrize("argv", [("slurmd", "-D", "-N", "n1"), ("slurmd", "-Nn1")])
def test_a_node_that_slurmd_is_told(argv: tuple[str, ...]) -> None:
    assert bad(netchecks.node_names(facts({"n1": {"hostname": "rack7-03", "slurmd": argv}}))) == []


def test_a_node_with_its_hostname_in_slurm_conf() -> None:
    conf = configuration("NodeName=n1 NodeHostname=rack7-03\nNodeName=n2\n")
    assert bad(netchecks.node_names(facts({"n1": {"hostname": "rack7-03"}}, configuration=conf))) == []


@pytest.mark.parametrize(
    ("disk", "verdict"),
    [
        (ROOM, None),
        (replace(ROOM, free=3 * 2**30), "warning"),
        (replace(ROOM, free=2**29), "failed"),
        (replace(ROOM, inodes_free=1), "failed"),
        (None, "failed"),
    ],
)
def test_space(disk: Disk | None, verdict: str | None) -> None:
    assert bad(hostchecks.disks(facts({"n2": {"disks": {"/tmp": disk}}}))) == ([("n2", verdict)] if verdict else [])


@pytest.mark.parametrize(
    ("more", "changed", "verdict"),
    [
        ({}, {"cgroup": 1, "controllers": frozenset(["cpuset", "memory", "devices"])}, None),
        ({}, {"cgroup": 1, "controllers": frozenset(["cpuset", "devices"])}, "failed"),
        ({}, {"controllers": frozenset(["cpuset"])}, "failed"),
        ({}, {"cgroup": None}, "unknown"),
        ({"CgroupPlugin            = autodetect": "CgroupPlugin            = cgroup/v1"}, {}, "failed"),
        ({"proctrack/cgroup": "proctrack/linuxproc", "task/cgroup,": ""}, {"cgroup": None}, None),
    ],
)
def test_confinement(more: dict[str, str], changed: dict[str, Any], verdict: str | None) -> None:
    config = CONFIG
    for before, after in more.items():
        config = config.replace(before, after)
    world = facts({"n1": changed, "n2": changed}, said={"config": config})
    assert bad(nodechecks.cgroups(world)) == ([("n[1-2]", verdict)] if verdict else [])


def test_an_mpi_that_srun_does_not_know() -> None:
    found = the_bad(nodechecks.mpi(facts({"n2": {"mpi": ("pmi2",)}})))
    assert (found.where, found.found) == ("n2", "MpiDefault=pmix, and srun there knows pmi2")
    assert bad(nodechecks.mpi(facts({"n2": {"mpi": None}}))) == [("n2", "unknown")]


def test_apptainer_where_it_is_asked_for() -> None:
    assert nodechecks.apptainer(facts()) == []
    asked = facts({"n1": {"apptainer": "apptainer version 1.4.5"}}, site=site(apptainer_install=True))
    assert bad(nodechecks.apptainer(asked)) == [("login,n2", "failed")]


# --- the cluster -------------------------------------------------------------------------------------------------------------


def said(**changed: str) -> Facts:
    return facts(said={**facts().said, **changed})


def test_a_controller_that_is_down() -> None:
    found = the_bad(
        clusterchecks.controllers(said(ping="Slurmctld(primary) at ctl is UP\nSlurmctld(backup) at ctl2 is DOWN\n"))
    )
    assert (found.where, found.found) == ("ctl2", "the backup is DOWN")


def test_no_controller_answers() -> None:
    world = facts(
        said={},
        refused=dict.fromkeys(("config", "nodes", "dbd"), "Unable to contact slurm controller"),
        configuration=None,
        trials=(),
    )
    found = doctor.diagnose(world)
    assert ("ctl", "failed") in bad(clusterchecks.controllers(world))
    assert doctor.exit_code(world, found) == 1
    assert {one.check for one in found if one.verdict is Verdict.UNKNOWN} >= {"nodes", "gres", "cgroup", "mpi", "jobs"}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"sdiag": "DBD Agent queue size: 150\n"}, "warning"),
        ({"sdiag": "DBD Agent queue size: 15000\n"}, "failed"),
        ({"sdiag": ""}, "unknown"),
        ({"dbd": "other|10.0.0.0|6817\n"}, "failed"),
        ({"dbd": "site||0\n"}, "warning"),
    ],
)
def test_slurmdbd_that_does_not_keep_up(changed: dict[str, str], verdict: str) -> None:
    assert bad(clusterchecks.database(said(**changed))) == [("ctl", verdict)]


def test_slurmdbd_that_does_not_answer() -> None:
    found = the_bad(clusterchecks.database(facts(refused={"dbd": "Connection refused"})))
    assert (found.where, found.verdict) == ("ctl", Verdict.FAILED)
    assert (
        bad(clusterchecks.database(facts(said={"config": "AccountingStorageType = (null)\n"}, refused={"dbd": "x"})))
        == []
    )


@pytest.mark.parametrize(
    ("state", "reason", "verdict", "words"),
    [
        ("IDLE+DRAIN", "Reason=new disk [ada@1795493049]", "warning", "new disk (ada, since 2026-11-24 04:04 UTC)"),
        ("DOWN*", "", "failed", "DOWN*"),
        ("IDLE+DRAIN+INVALID_REG", "Reason=gres/gpu count reported lower than configured (3 < 4) [slurm@1795493049]", "failed", "3 < 4"),
        ("IDLE*", "", "failed", "IDLE*"),
    ],
)  # fmt: skip
def test_nodes_that_take_no_jobs(state: str, reason: str, verdict: str, words: str) -> None:
    node = NODE.format("n1").replace("State=IDLE", f"State={state}").rstrip() + f" {reason}\n"
    found = the_bad(clusterchecks.nodes(said(nodes=node + NODE.format("n2"))))
    assert (found.where, found.verdict) == ("n1", verdict)
    assert words in found.found


def test_nodes_that_sleep_are_well() -> None:
    node = NODE.format("n1").replace("State=IDLE", "State=IDLE+CLOUD+POWERED_DOWN")
    assert bad(clusterchecks.nodes(said(nodes=node))) == []


@pytest.mark.parametrize(
    ("trials", "verdicts"),
    [
        (None, ["left out"]),
        ((), ["unknown"]),
        ((Trial(1, busy=True, complaint="Requested nodes are busy"),), ["warning"]),
        ((Trial(1, ("n1",)), Trial(2, complaint="Unable to contact slurm controller")), ["ok", "failed"]),
    ],
)
def test_jobs(trials: Any, verdicts: list[str]) -> None:
    assert [str(one.verdict) for one in clusterchecks.jobs(facts(trials=trials))] == verdicts


def test_left_out_and_warnings_alone_are_no_failure() -> None:
    found = clusterchecks.jobs(facts(trials=None)) + clusterchecks.database(said(dbd="site||0\n"))
    assert doctor.exit_code(facts(), found) == 0
