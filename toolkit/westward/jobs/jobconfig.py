"""What every job template says: the keys of `JobConfig`, as Hydra's structured configs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from westward.model.checkpoint import Checkpoint
from westward.model.job import Launcher

_USUAL = Checkpoint()


@dataclass
class PolicyConfig:
    """conf/policy/*.yaml: what each term of the cost weighs."""

    name: str = MISSING
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class BudgetConfig:
    """The most that a submission may spend; of a sweep, all its points together."""

    money: float | None = None
    accelerator_hours: float | None = None
    carbon_kg: float | None = None
    currency: str | None = None
    allow_unknown_cost: bool = False


@dataclass
class CheckpointConfig:
    """How a job is stopped before its time limit and started again; without a signal it is not."""

    signal: str | None = None
    before_s: int = _USUAL.before_s
    restarts: int = _USUAL.restarts
    exit_code: int = _USUAL.exit_code


@dataclass
class ContainerConfig:
    """The image that the command runs in; null for the node itself."""

    image: str | None = None
    runtime: str | None = None
    binds: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


@dataclass
class JobConfig:
    """What every template says; the types are checked by Hydra's structured configs."""

    description: str = MISSING
    name: str = MISSING
    command: list[str] = MISSING
    nodes: int = 1
    ntasks_per_node: int = 1
    cpus_per_task: int = 1
    mem: str | None = None
    accelerators: str | None = None
    compute: str | None = None
    accelerator_mem: str | None = None
    ntasks_per_accelerator: int | None = None
    walltime: str = "00:10:00"
    launcher: str = Launcher.SRUN.value
    container: ContainerConfig = field(default_factory=ContainerConfig)
    modules: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    account: str | None = None
    qos: str | None = None
    array: str | None = None
    depends_on: list[str] = field(default_factory=list)
    begin: str | None = None
    requeue: bool = False
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    idempotent: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, list[Any]] = field(default_factory=dict)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    project: str | None = None
    max_rtt_ms: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    region: str = MISSING
    currency: str | None = None
    carbon_price_per_kg: float = 0.0
    waiting_price_per_h: float = 0.0


COMMON = {item.name for item in fields(JobConfig)}
TYPES = get_type_hints(JobConfig)
OPEN = ("env", "options")  # mappings whose keys are the user's own
# Every template starts from these defaults, so that a common key can be set where the template does not mention it. As plain
# values: a structured root would refuse the template's own parameters.
ConfigStore.instance().store("job_defaults", OmegaConf.to_container(OmegaConf.structured(JobConfig)))
