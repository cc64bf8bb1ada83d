"""The class that Hydra finds. What it does is in westward.faces.points, which is loaded when something is launched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# needs no return value; every other sweeper chooses the next points by those of the last
_PLAIN = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class WestwardLauncher(Launcher):
    """Submits each point as a job at the site that the policy chooses for it, and waits for all unless `detach` is set."""

    def __init__(self, **_: Any) -> None:
        """What `hydra.launcher` says is read from the config of each point, in which its interpolations are resolved."""
        self._context: HydraContext | None = None
        self._config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over.

        Raises:
            CompactHydraException: the sweeper needs return values, and `detach` gives none.
        """
        from westward.faces.pointconfigs import PointConfigs

        sweeper = config.hydra.sweeper.get("_target_", "")
        if config.hydra.launcher.detach and sweeper != _PLAIN:
            raise CompactHydraException(
                f"hydra.launcher.detach=true does not wait for the values that {sweeper.rpartition('.')[2] or 'this sweeper'} needs\n"
                "leave detach out: then it waits for each batch; or use hydra/sweeper=basic"
            )
        self._configs = PointConfigs(hydra_context.config_loader)
        hydra_context.config_loader = cast(ConfigLoader, self._configs)
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One batch; for each point what it returned, or why it failed, in their order."""
        from westward.faces.points import launch

        assert self._context is not None and self._config is not None
        try:
            return launch(self._context, self._config, job_overrides, initial_job_idx)
        finally:
            self._configs.forget()
