"""The points of somebody's Hydra sweep as jobs: what `hydra/launcher=westward` does.

A point runs its application as a user would by hand, with the point's overrides, through `hydra_plugins/westward_launcher/_point.py`. The job's
directory at its site is the point's output directory; what lies there comes back to where Hydra's own launcher would have put it. No
pickle: what the application returned is JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from westward.catalogue.load import load_catalogue
from westward.errors import InputError, WestwardError
from westward.faces import pointprogram, pointresult
from westward.faces.job import Job, as_completed
from westward.faces.quoting import overrides_of
from westward.faces.session import session
from westward.federation.router import chosen_offer, route_all
from westward.federation.snapshot import take_snapshot
from westward.jobs.template import Composed, compose_job
from westward.model.decision import Decision
from westward.model.job import JobSpec
from westward.model.site import Catalogue

log = logging.getLogger(__name__)

# keys of hydra.launcher that are about the launching itself; all others are keys of the job template
_OWN = frozenset({"_target_", "python", "directory", "detach", "site", "fetch_mib"})


class Refused(CompactHydraException):
    """What a user has to know of a launch; Hydra prints its words alone."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a batch.

    Attributes:
        number: `hydra.job.num`.
        label: its overrides, as Hydra's own launcher shows them.
        config: what Hydra composed for it.
        launcher: its `hydra.launcher`, resolved.
    """

    number: int
    label: str
    config: DictConfig
    launcher: dict[str, Any]
    composed: Composed
    spec: JobSpec


def launch(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Submit a batch of points, and wait for it unless it is to be detached.

    Raises:
        Refused: a point cannot be composed, or no site can run it; then none was submitted.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    try:
        catalogue = load_catalogue()
        points = [
            _point(context, config, list(overrides), first + place) for place, overrides in enumerate(job_overrides)
        ]
        decisions = _decided(points, catalogue)
        answers = _submitted(points, decisions, catalogue)
        if config.hydra.launcher.detach:
            log.info("detached: 'westward jobs' lists them, 'westward results KEY' fetches what one wrote")
            return [_detached(point, answer) for point, answer in zip(points, answers, strict=True)]
        return _waited_for(points, answers, catalogue)
    except WestwardError as error:
        raise Refused(f"{error}\n{error.next_step}".rstrip()) from error
    finally:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)


def _point(context: HydraContext, config: DictConfig, overrides: list[str], number: int) -> Point:
    """Compose a point as Hydra's own launcher does, and the job that it asks for."""
    label = "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(filter_overrides(overrides))
    )
    composed_config = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed_config):
        composed_config.hydra.job.num = number
        composed_config.hydra.job.id = "not submitted yet"
    try:
        with in_effect(composed_config):
            launcher = OmegaConf.to_container(composed_config.hydra.launcher, resolve=True)
            assert isinstance(launcher, dict)
            asked = {str(key): value for key, value in launcher.items()}
            asked["name"] = asked["name"] or composed_config.hydra.job.name
            sweep_dir = str(composed_config.hydra.sweep.dir)
        wanted = {key: value for key, value in asked.items() if key not in _OWN and value is not None}
        composed = compose_job("command", overrides_of(wanted))
    except (OmegaConfBaseException, WestwardError) as error:
        said = str(error).splitlines()[0].replace("template 'command'", "hydra.launcher")
        raise InputError(f"point #{number} ({label}): {said}", getattr(error, "next_step", "")) from error
    spec = replace(
        composed.spec,
        command=pointprogram.command(composed_config, asked, overrides, number, sweep_dir),
        setup=(*composed.spec.setup, pointprogram.written()),
        outputs=(pointprogram.RECORD,),
    )
    return Point(number, label, composed_config, asked, composed, spec)


@contextmanager
def in_effect(config: DictConfig) -> Iterator[None]:
    """Meanwhile `${hydra:...}` means this config."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _decided(points: Sequence[Point], catalogue: Catalogue) -> list[Decision]:
    """Where each goes, by one look at the sites.

    Raises:
        WestwardError: one fits nowhere; the message names it.
    """
    snapshot, now = take_snapshot(catalogue.sites), datetime.now(UTC)
    decided: dict[int, Decision] = {}
    for site in {point.launcher["site"] for point in points}:
        there = [point for point in points if point.launcher["site"] == site]
        jobs = [(point.spec, point.composed.policy, point.composed.region) for point in there]
        decided |= {
            point.number: decision
            for point, decision in zip(there, route_all(jobs, catalogue, snapshot, now, site), strict=True)
        }
    for point in points:
        try:
            chosen_offer(decided[point.number], point.launcher["site"])
        except WestwardError as error:
            raise type(error)(
                f"point #{point.number} ({point.label}), and so none was submitted: {error}", error.next_step
            ) from error
    return [decided[point.number] for point in points]


def _submitted(
    points: Sequence[Point], decisions: Sequence[Decision], catalogue: Catalogue
) -> list[Job | WestwardError]:
    log.info("Launching %d %s through Westward", len(points), "job" if len(points) == 1 else "jobs")
    answers: list[Job | WestwardError] = []
    with session(catalogue.sites) as opened:
        opened.running.settle(thorough=False)
        pairs = ((point.spec, decision) for point, decision in zip(points, decisions, strict=True))
        for point, answer in zip(points, opened.running.submit_stream(pairs), strict=True):
            if isinstance(answer, WestwardError):
                log.error("\t#%d : %s : %s", point.number, point.label, answer)
                answers.append(answer)
                continue
            log.info("\t#%d : %s : job %s at %s", point.number, point.label, answer.key, answer.site)
            answers.append(Job(answer))
    return answers


def _waited_for(
    points: Sequence[Point], answers: Sequence[Job | WestwardError], catalogue: Catalogue
) -> list[JobReturn]:
    """What became of each; a point that failed stops none of the others."""
    returns = {
        point.number: pointresult.failed(point.config, answer)
        for point, answer in zip(points, answers, strict=True)
        if isinstance(answer, WestwardError)
    }
    waiting = {answer: point for point, answer in zip(points, answers, strict=True) if isinstance(answer, Job)}
    try:
        for job in as_completed(waiting):
            point = waiting[job]
            with in_effect(point.config):
                returns[point.number] = pointresult.returned(
                    job, catalogue.sites.get(job.site), point.config, point.launcher["fetch_mib"], point.number
                )
    except KeyboardInterrupt:
        log.warning("no longer waiting; the jobs go on: westward jobs")
        raise
    return [returns[point.number] for point in points]


def _detached(point: Point, answer: Job | WestwardError) -> JobReturn:
    if isinstance(answer, WestwardError):
        return pointresult.failed(point.config, answer)
    made = pointresult.begun(point.config)
    made.status = JobStatus.COMPLETED  # no sweeper takes anything else for an answer
    made.return_value = None
    return made
