"""A job of one of Westward's templates on the cluster that the playbook made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from provision.sites import Fleet
from westward.catalogue.load import load_site
from westward.jobs.template import compose_job
from westward.model.accelerators import Granted
from westward.model.decision import Cost, Offer
from westward.model.job import Submission
from westward.slurm.script import render

SITE = Path(__file__).parents[1] / "data" / "sites" / "west.yaml"
ROOT = "/shared/jobs"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a job ended: its exit code, what it wrote to its log, and what it was."""

    status: int
    log: str
    made: Submission


def run_template(fleet: Fleet, template: str, words: list[str], *options: str) -> Ran:
    """Compose a job, hand its script to sbatch on the login node as the user `admin`, and wait for it.

    It is given what an accelerator of the cluster makes of its request, and takes two of them on each node.
    """
    site = replace(load_site(SITE), root=ROOT, account="physics", environment={})
    chip = Granted("any:2", "h100", 2, 2, vendor="NVIDIA")
    where = Offer("west", "gpu", "h100", 0.0, None, None, None, Cost(), chip)
    made = render(compose_job(template, words).spec, where, site, "a" * 12)
    fleet.said("n1", "sh", "-c", f"rm -rf {ROOT} && mkdir {ROOT} && chown admin {ROOT}")
    line = 'printf %s "$1" >/tmp/job.sh && shift && sbatch --wait "$@" /tmp/job.sh'
    answer = fleet.on("login", "runuser", "-u", "admin", "--", "sh", "-c", line, "sh", made.script, *options)
    assert "Submitted batch job" in answer.stdout, answer
    return Ran(answer.status, fleet.said("n1", "cat", made.stdout), made)
