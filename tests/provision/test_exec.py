"""Programs on all hosts of a cluster, one of which does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.clusters import Said, westward
from provision.sites import Fleet

pytestmark = pytest.mark.lab


@pytest.fixture
def without_n2(fleet: Fleet) -> Iterator[None]:
    fleet.said("n2", "sh", "-c", "systemctl stop ssh; pkill -KILL sshd || true")  # and the connections that are kept
    yield
    fleet.said("n2", "systemctl", "start", "ssh")


def test_a_host_that_does_not_answer_stops_no_other(fleet: Fleet, site_inventory: Path, without_n2: None) -> None:
    def execute(*words: str) -> Said:
        return westward("site", "exec", str(fleet.lab.inventory), "-i", str(site_inventory), *words)

    told = execute("--json", "--sudo", "--", "id", "-un")
    assert told.status == 4
    assert "of 5 hosts 1 gave no answer: n2\n" in told.err
    assert {host: answer.get("stdout") for host, answer in told.json.items()} == {
        **dict.fromkeys(("ctl", "ctl2", "login", "n1"), "root\n"),
        "n2": None,
    }
    others = execute("--on", "slurm_controller,slurm_login,n1", "--", "hostname")
    assert (others.status, others.err) == (0, "")
    assert set(others.out.splitlines()) == {f"{host}: {host}" for host in ("ctl", "ctl2", "login", "n1")}
