"""`westward attempts`: what the accounting has of a job, put back or not."""

from __future__ import annotations

import json

from unit.cli.test_multirun import slurm, westward
from unit.slurm.fakes import FakeSlurm
from westward.store.ledger import Ledger

__all__ = ["slurm"]


def test_before_there_is_any(slurm: FakeSlurm) -> None:
    assert westward("submit", "gemm").returncode == 0
    (job,) = Ledger().jobs()
    done = westward("attempts", job.key)
    assert (done.returncode, f"no attempt at job {job.key} yet" in done.stdout) == (0, True)


def test_each_has_a_line_with_what_it_used(slurm: FakeSlurm) -> None:
    assert westward("submit", "gemm").returncode == 0
    (job,) = Ledger().jobs()
    fields = ["7", "PREEMPTED", "0:15", "100", "110", "130", "gpu", "n1", "None", "research", "normal", "20", "cpu=4,mem=2G",
              "00:04.500", "", "", job.submission.name]  # fmt: skip
    second = [*fields]
    second[1:6] = ["COMPLETED", "0:0", "130", "200", "260"]
    second[11] = "60"
    rows = "\\n".join("TOKEN".join(row) for row in (second, fields))
    slurm.program(
        "sacct",
        "for word; do case $word in --delimiter=*) token=${word#--delimiter=};; *CANCELLED,*) exit 0;; esac; done; "
        f"printf '{rows}\\n' | sed \"s/TOKEN/$token/g\"",
    )
    told = json.loads(westward("attempts", job.key, "--json").stdout)
    assert [(each["status"]["state"], each["status"]["restarts"], each["usage"]["elapsed_s"]) for each in told] == [
        ("PREEMPTED", 0, 20), ("COMPLETED", 1, 60),
    ]  # fmt: skip
    shown = westward("attempts", job.key).stdout
    (preempted,) = [line for line in shown.splitlines() if "PREEMPTED" in line]
    assert "signal 15" in preempted and "20 s" in preempted
