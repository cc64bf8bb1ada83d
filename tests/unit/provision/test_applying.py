"""A plan carried out, on hosts that answer as they are told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from westward import process
from westward.errors import Unreachable, WestwardError
from westward.model.site import ShellDoor
from westward.process import Completed
from westward.provision.applying import apply_plan
from westward.provision.hosts import Hands, Host, Managed
from westward.provision.planning import Candidate, Change, Plan
from westward.slurm.confcompare import Difference
from westward.slurm.confeffects import effect_of

OLD, NEW = "0" * 64, "1" * 64
FAILED = """TASK [slurm : Install] ***
ok: [n1]

TASK [slurm_compute : Say how slurmd starts] ***
fatal: [n1]: FAILED! =>
    msg: no room is left

PLAY RECAP ***
n1                         : ok=1    changed=0    unreachable=0    failed=1    skipped=0
"""


class Told(Hands):
    """Hosts that have the configuration of before until the playbook ran, and again once it was put back; n1 can fall silent."""

    def __init__(self, silent: bool = False) -> None:
        super().__init__()
        self.silent, self.played, self.put_back = silent, False, False
        self.did: list[tuple[str, str]] = []

    def run(self, host: Host, argv: Sequence[str], *, stdin: str = "", **how: Any) -> Completed | WestwardError:
        if self.silent and host.name == "n1":
            return Unreachable("n1 does not answer")
        text = " ".join([*argv, stdin])
        self.did.append((host.name, text))
        if "sinfo" in argv:
            return Completed(tuple(argv), 0, "n1 idle\n", "")
        self.put_back |= "westward" in text and "cmp" in text
        return Completed(tuple(argv), 0, f"{NEW if self.played and not self.put_back else OLD}  slurm.conf\n", "")


def site() -> Managed:
    named = {"ctl": "slurm_controller", "n1": "slurm_compute"}
    return Managed((), {name: Host(name, name, frozenset([group]), ShellDoor()) for name, group in named.items()}, {})


def plan(key: str) -> Plan:
    difference = Difference("slurm.conf", "", key, "a", "b")
    change = Change(difference, effect_of(difference, (24, 11)))
    return Plan("site", "24.11.5", (change,), None, (), Candidate({}, "24.11.5"))


def fails(hands: Told, monkeypatch: pytest.MonkeyPatch, goes_silent: bool) -> None:
    def stream(argv: Sequence[str], told: Callable[[str], None], **how: object) -> int:
        assert argv[0] == "ansible-playbook"
        hands.played, hands.silent = True, goes_silent
        for line in FAILED.splitlines():
            told(line)
        return 2

    monkeypatch.setattr(process, "stream", stream)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))


def test_a_host_that_does_not_answer_stops_it_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Told(silent=True)
    fails(hands, monkeypatch, goes_silent=True)
    with pytest.raises(Unreachable, match=r"n1.*nothing was changed"):
        apply_plan(hands, site(), plan("KillWait"))
    assert not hands.played


def test_where_the_playbook_fails_the_files_of_before_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Told()
    fails(hands, monkeypatch, goes_silent=False)
    applied = apply_plan(hands, site(), plan("KillWait"))
    assert applied.problems == (
        "the playbook failed: site.yml: it failed on n1 at 'slurm_compute : Say how slurmd starts': no room is left",
    )
    assert applied.restored
    assert {host: state.has for host, state in applied.hosts.items()} == {"ctl": "before", "n1": "before"}
    assert [host for host, text in hands.did if "systemctl restart slurmctld" in text] == ["ctl"]
    assert not any("restart slurmd" in text.split() for _, text in hands.did)
    assert applied.log.read_text() == FAILED
    assert applied.log.stat().st_mode & 0o777 == 0o600


def test_a_host_that_is_silent_afterwards_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Told()
    fails(hands, monkeypatch, goes_silent=True)
    applied = apply_plan(hands, site(), plan("SlurmdSpoolDir"))
    assert not applied.restored
    assert {host: state.has for host, state in applied.hosts.items()} == {"ctl": "before", "n1": "no answer"}
