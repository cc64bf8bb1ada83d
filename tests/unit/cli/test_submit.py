"""`westward templates` and `submit`, as a user reads them."""

from __future__ import annotations

from unit.cli.test_jobs import westward
from unit.cli.test_multirun import slurm
from unit.slurm.fakes import FakeSlurm
from westward.jobs.template import common_keys
from westward.store.ledger import Ledger

__all__ = ["slurm"]


def test_the_list_of_templates_names_every_key_that_all_of_them_take() -> None:
    said = westward("templates").stdout
    named = said.partition("All take: ")[2].partition("Example:")[0].split()
    assert named == common_keys()
    assert {
        "nodes",
        "array",
        "depends_on",
        "begin",
        "requeue",
        "idempotent",
        "options",
        "outputs",
        "policy",
        "currency",
    } <= {*named}
    assert not {"choices", "description"} & {*named}


def test_a_submission_returns_and_says_how_to_go_on(slurm: FakeSlurm) -> None:
    done = westward("submit", "gemm")
    assert (done.returncode, done.stderr) == (0, "")
    (job,) = Ledger().jobs()
    assert done.stdout.splitlines()[-2:] == [
        f"follow it:   westward watch {job.key}     what it writes: westward logs -f {job.key}",
        f"at its end:  westward results {job.key}   what happened:  westward explain {job.key}",
    ]
