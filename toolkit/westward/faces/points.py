"""The points of somebody's Hydra sweep as jobs: what `hydra/launcher=westward` does.

Points that ask for the same at the same site share an array of Slurm's. A point runs its application as a user would by hand, with the point's overrides, through `hydra_plugins/westward_launcher/_point.py`. Its directory
at its site is the point's output directory; what lies there comes back to where Hydra's own launcher would have put it. No
pickle: what the application returned is JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from westward.faces.quoting import overrides_of
from westward.faces.sweeping import Point, as_they_end, not_submitted, submitted
from westward.federation.grouping import Point as Wish
from westward.federation.snapshot import take_snapshot
from westward.federation.sweeping import SweepPlan, plan_sweep
from westward.jobs.sweepstate import NOT_SUBMITTED
from westward.jobs.template import compose_job
from westward.model.site import Catalogue

log = logging.getLogger(__name__)

# keys of hydra.launcher that are about the launching itself; all others are keys of the job template
_OWN = frozenset({"_target_", "python", "directory", "detach", "site", "fetch_mib", "job"})


class Refused(CompactHydraException):
    """What a user has to know of a launch; Hydra prints its words alone."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One point of a batch.

    Attributes:
        number: `hydra.job.num`.
        config: what Hydra composed for it.
        launcher: its `hydra.launcher`, resolved.
        wish: the job that it would be alone.
    """

    number: int
    config: DictConfig
    launcher: dict[str, Any]
    wish: Wish


def launch(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Submit a batch of points, and wait for it unless it is to be detached.

    Raises:
        Refused: a point cannot be composed, or no site can run it; then none was submitted.
    """
    setup_globals()
    logging.getLogger("paramiko").setLevel(logging.WARNING)  # Hydra lets every library speak that has something to tell
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    try:
        catalogue = load_catalogue()
        asked = [_asked(context, config, list(each), first + place) for place, each in enumerate(job_overrides)]
        points = _submitted(asked, _planned(asked, catalogue), catalogue)
        if config.hydra.launcher.detach:
            log.info("detached: not waited for; Ctrl-C or a closed terminal ends none of them")
            return [_detached(each, points[each.number]) for each in asked]
        return _waited_for(asked, points, catalogue)
    except WestwardError as error:
        raise Refused(f"{error}\n{error.next_step}".rstrip()) from error
    finally:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)


def _asked(context: HydraContext, config: DictConfig, overrides: list[str], number: int) -> Asked:
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
        composed = compose_job("command", overrides_of(_of_the_template(asked)))
    except (OmegaConfBaseException, WestwardError) as error:
        said = str(error).splitlines()[0].replace("template 'command'", "hydra.launcher")
        raise InputError(f"point #{number} ({label}): {said}", getattr(error, "next_step", "")) from error
    spec = replace(
        composed.spec,
        command=pointprogram.command(composed_config, asked, overrides, number, sweep_dir),
        setup=(*composed.spec.setup, pointprogram.written()),
        outputs=(pointprogram.RECORD,),
    )
    return Asked(number, composed_config, asked, Wish(label, tuple(overrides), spec, composed.policy, composed.region))


def _of_the_template(launcher: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the job template that are set."""
    named = {key: value for key, value in launcher.items() if key not in _OWN and value is not None}
    return {**named, **launcher["job"]}


@contextmanager
def in_effect(config: DictConfig) -> Iterator[None]:
    """Meanwhile `${hydra:...}` means this config."""
    instance = HydraConfig.instance()
    before = instance.cfg
    # set_config would copy it, which takes as long as all else that is done here for a point
    instance.cfg = config  # type: ignore[assignment]
    try:
        yield
    finally:
        instance.cfg = before


def _planned(asked: Sequence[Asked], catalogue: Catalogue) -> list[tuple[Sequence[Asked], SweepPlan]]:
    """Where all of them go, by one look at the sites: a plan for those of each site that is named, and one for all others.

    Raises:
        WestwardError: one fits nowhere; the message names it.
    """
    looked = take_snapshot(catalogue.sites)
    plans: list[tuple[Sequence[Asked], SweepPlan]] = []
    for site in dict.fromkeys(each.launcher["site"] for each in asked):
        there = [each for each in asked if each.launcher["site"] == site]
        plan = plan_sweep([each.wish for each in there], catalogue, site, looked)
        for place, error in plan.problems.items():
            said = f"point #{there[place].number} ({there[place].wish.label}), and so none was submitted: {error}"
            raise type(error)(said, error.next_step) from error
        plans.append((there, plan))
    return plans


def _submitted(
    asked: Sequence[Asked], plans: Sequence[tuple[Sequence[Asked], SweepPlan]], catalogue: Catalogue
) -> dict[int, Point]:
    """The points on their way, by number."""
    jobs = sum(len(plan.jobs) for _, plan in plans)
    log.info("Launching %s in %s through Westward", _counted(len(asked), "point"), _counted(jobs, "job"))
    found: dict[int, Point] = {}
    for there, plan in plans:
        for note in plan.notes:
            log.warning("%s", note)
        name, site = there[0].launcher["name"], there[0].launcher["site"]
        sweep = submitted(plan, catalogue, name, None, list(there[0].config.hydra.overrides.task), site)
        log.info("\tsweep %s : %s", sweep.key, _counted(len(sweep), "point"))
        found |= {each.number: point for each, point in zip(there, sweep, strict=True)}
    for each in asked:
        point = found[each.number]
        of = point.job.key if point.task is None else f"{point.job.key} task {point.task}"
        log.info("\t#%d : %s : job %s at %s", each.number, each.wish.label, of, point.job.site)
    return found


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _waited_for(asked: Sequence[Asked], points: Mapping[int, Point], catalogue: Catalogue) -> list[JobReturn]:
    """What became of each; a point that failed stops none of the others."""
    returns: dict[int, JobReturn] = {}
    whose = {id(points[each.number]): each for each in asked}
    try:
        for point in as_they_end(points.values(), None):
            each = whose[id(point)]
            with in_effect(each.config):
                returns[each.number] = pointresult.returned(
                    point, catalogue.sites.get(point.job.site), each.config, each.launcher["fetch_mib"], each.number
                )
    except KeyboardInterrupt:
        log.warning("no longer waiting; the jobs go on: westward jobs")
        raise
    return [returns[each.number] for each in asked]


def _detached(asked: Asked, point: Point) -> JobReturn:
    if point.state == NOT_SUBMITTED:
        return pointresult.failed(asked.config, not_submitted(point))
    # no sweeper takes another status for an answer
    return JobReturn(overrides=list(asked.config.hydra.overrides.task), status=JobStatus.COMPLETED)
