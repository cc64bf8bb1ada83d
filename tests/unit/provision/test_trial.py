"""What of a configuration is tried, what is left out and told, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from westward.errors import Unreachable, WestwardError
from westward.model.site import ShellDoor
from westward.process import Completed
from westward.provision.hosts import Hands, Host
from westward.provision.trial import adjusted, complaints, try_out
from westward.slurm.confcluster import of_texts

SLURM = """# by hand
ClusterName=c
SlurmctldHost=ctl(10.0.0.1)
SlurmctldHost=ctl2
AuthType=auth/slurm
authinfo=socket=/run/other
StateSaveLocation=/shared/state
SlurmctldLogFile=/var/log/slurmctld.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageTRES=gres/gpu
Prolog=/usr/local/prolog
JobSubmitPlugins=lua
SuspendProgram=/usr/local/off
KillWait=31
NodeName=n[1-2] CPUs=4 NodeAddr=10.1.0.[1-2]
NodeName=n3 Foo=1
NodeName=n4 NodeHostname=oak State=FUTURE
NodeName=c1 State=CLOUD
PartitionName=gpu Nodes=n[1-2] TRESBillingWeights="CPU=1,GRES/gpu=9" MaxTime=60
"""
FILES = {"slurm.conf": SLURM, "gres.conf": "AutoDetect=nvml\n", "slurmdbd.conf": "StoragePass=secret\n"}
CONTROLLER = Host("ctl", "ctl", frozenset(["slurm_controller"]), ShellDoor())


class Answering(Hands):
    """One answer, whatever is asked; keeps what was."""

    def __init__(self, answer: Completed | WestwardError) -> None:
        super().__init__()
        self.answer = answer
        self.asked: tuple[tuple[str, ...], str] = ((), "")

    def run(self, host: Host, argv: Sequence[str], *, stdin: str = "", **how: Any) -> Completed | WestwardError:
        self.asked = (tuple(argv), stdin)
        return self.answer


def test_a_trial_has_nothing_of_the_site_and_every_line_in_its_place() -> None:
    tried, _ = adjusted(FILES)
    text = tried["slurm.conf"]
    for left_out in (
        "10.0.0.1",
        "ctl2",
        "socket",
        "/shared",
        "slurmdbd",
        "prolog",
        "lua",
        "/usr/local/off",
        "/var/log",
        "GRES/gpu",
    ):
        assert left_out not in text
    lines = text.split("\n")
    for kept in (
        "ClusterName=c",
        "AuthType=auth/slurm",
        "KillWait=31",
        "NodeName=n3 Foo=1",
    ):
        assert lines.index(kept) == SLURM.split("\n").index(kept)
    assert "SlurmctldHost=@HOST@" in lines
    assert "StateSaveLocation=/run/slurmctld/state" in lines


def test_what_is_not_tried_is_told() -> None:
    tried, unchecked = adjusted(FILES)
    assert "slurmdbd.conf" not in tried
    assert {"AccountingStorageType", "Prolog", "JobSubmitPlugins", "SuspendProgram", "slurmdbd.conf"} <= set(unchecked)
    assert "SlurmctldLogFile" not in unchecked


def test_of_a_log_the_errors_are_told_once_and_not_that_it_is_a_new_cluster() -> None:
    log = [
        "slurmctld: error: Could not open node state file /run/slurmctld/state/node_state: No such file or directory",
        "[2026-01-01T00:00:00.000] error: _parse_next_key: Parsing error at unrecognized key: Foo",
        "slurmctld: error: _parse_next_key: Parsing error at unrecognized key: Foo",
        "slurmctld: fatal: Unable to process configuration file",
        "slurmctld: slurmctld version 24.11.5 started on cluster c",
    ]
    assert complaints(log) == (
        "error: _parse_next_key: Parsing error at unrecognized key: Foo",
        "fatal: Unable to process configuration file",
    )


def test_it_runs_in_namespaces_of_its_own_and_ends_in_time() -> None:
    said = {"started": True, "missing": ["NodeName=n2"], "log": [], "interfaces": ["lo"], "seconds": 1.5}
    hands = Answering(Completed((), 0, "noise\n" + json.dumps(said) + "\n", ""))
    conf = of_texts({"slurm.conf": SLURM}, (24, 11))
    trial = try_out(hands, CONTROLLER, FILES, conf, "/shared/state")
    assert (trial.started, trial.passed, trial.missing, trial.interfaces) == (True, False, ("NodeName=n2",), ("lo",))
    argv, script = hands.asked
    assert argv[0] == "timeout"
    assert {"--net", "--mount", "--pid", "--kill-child"} <= set(argv)
    compile(script, "script", "exec")
    given = script.rpartition("main(")[2]
    assert "secret" not in given
    for told in (
        "'user': 'root'",
        "'port': 6817",
        "['n1', 'n2', 'n3']",
        "'names': ['c1', 'n1', 'n2', 'n3']",
        "'state': '/shared/state'",
    ):
        assert told in given


@pytest.mark.parametrize(
    "answer",
    [Completed((), 1, "", "unshare: unshare failed: Operation not permitted\n"), Unreachable("no route to host")],
)
def test_a_host_that_cannot_try_is_told(answer: Completed | WestwardError) -> None:
    with pytest.raises(Unreachable, match=r"ctl: the trial could not be run.*(not permitted|no route)"):
        try_out(Answering(answer), CONTROLLER, FILES, of_texts({"slurm.conf": SLURM}, (24, 11)), "/shared/state")
