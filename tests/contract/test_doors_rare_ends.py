"""Ends that no job of this lab comes to by itself, written into the cluster's own accounting, and read from there by each door.

OUT_OF_MEMORY would need cgroups that the lab's nodes may not write, BOOT_FAIL a node that fails as it boots (here that is NODE_FAIL),
LAUNCH_FAILED and REVOKED a prolog that breaks and a federation. A number that no Slurm knows yet stands for a later version.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from contract.clusters import Judge
from contract.doors import CLUSTERS, DOORS, Opened, offers
from westward.model.job import JobState
from westward.slurm.client import Known

pytestmark = pytest.mark.lab

# slurm.h: job states, and the flags above their lowest 8 bits
BOOT_FAIL, OUT_OF_MEMORY, FAILED, UNHEARD_OF = 9, 11, 5, 60
LAUNCH_FAILED, REVOKED = 1 << 8, 1 << 19
# the flag of a launch that failed stands beside the state that the job got
ENDS = {
    BOOT_FAIL: JobState.BOOT_FAIL,
    OUT_OF_MEMORY: JobState.OUT_OF_MEMORY,
    FAILED | LAUNCH_FAILED: JobState.FAILED,
    REVOKED: JobState.REVOKED,
    UNHEARD_OF: JobState.UNKNOWN,
}


def rewrite(judge: Judge, job_id: int, state: int) -> None:
    query = f"update {judge.cluster}_job_table set state={state} where id_job={job_id}"
    judge.root("mariadb", "slurm_acct_db", "-e", query)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_rare_ends(all_doors: Mapping[tuple[str, str], Opened], cluster: str):
    """Found, polled and in the history; one that cannot be read is UNKNOWN, and stops none of the others."""
    doors = [all_doors[name, door] for name, door in DOORS if name == cluster]
    began = datetime.now(UTC) - timedelta(seconds=2)
    asked = {state: doors[0].shell("true") for state in ENDS}
    ids = dict(zip(asked, doors[0].submit(*asked.values()), strict=True))
    ordinary = doors[0].shell("true")
    known = doors[0].start(ordinary)
    judge = doors[0].judge
    judge.wait([*ids.values(), known], "COMPLETED")
    judge.wait_until_left([*ids.values(), known])
    for state, job_id in ids.items():
        rewrite(judge, job_id, state)
    wrong = []
    for opened in doors:
        polled = opened.client.poll(dict.fromkeys([*ids.values(), known], Known(JobState.SUSPENDED)))
        found = opened.client.find([submission.name for submission in (*asked.values(), ordinary)])
        assert polled.changed[known].state is found[ordinary.name][0].state is JobState.COMPLETED
        told = {}
        if offers((opened.cluster, opened.door), "history"):
            told = {each.status.job_id: each.status for each in opened.client.history(began)}
            assert told[known].state is JobState.COMPLETED
        for state, job_id in ids.items():
            said = {
                "find": found[asked[state].name][0],
                "poll": polled.changed.get(job_id),
                "history": told.get(job_id),
            }
            if not told:
                del said["history"]
            if opened.door == "native" and state == REVOKED:  # pyslurm asks slurmdbd in a way that leaves these out
                del said["poll"]
            wrong += [
                f"{opened}, {how}: {ENDS[state]} is told as {status and status.state}"
                for how, status in said.items()
                if status is None or status.state is not ENDS[state]
            ]
    assert not wrong, "\n".join(wrong)
