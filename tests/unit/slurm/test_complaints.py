"""What Slurm's commands complain of, as three versions really did."""

from __future__ import annotations

import pytest

from unit.slurm.fakes import VERSIONS, said
from westward.slurm import complaints

every_version = pytest.mark.parametrize("version", VERSIONS)


@every_version
def test_complaints_name_their_job(version: str) -> None:
    for name in ("release", "hold"):
        told = complaints.by_job(said(version, name))
        assert told[999999] == "Invalid job id specified", name
        assert all(complaints.over(what) for what in told.values())
    assert complaints.words(said(version, "sbatch_partition")) == (
        "invalid partition specified: nosuch; Batch job submission failed: Invalid partition name specified"
    )


def test_a_job_that_has_finished_is_over() -> None:
    assert complaints.by_job("scancel: error: Kill job error on job id 4: Access/permission denied\n") == {
        4: "Access/permission denied"
    }
    assert complaints.by_job("Job has already finished for job 4\nslurm_suspend error: No error\n") == {
        4: "Job has already finished"
    }
    assert complaints.over("Job has already finished") and not complaints.over("Access/permission denied")
