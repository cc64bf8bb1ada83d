"""A sweeper that chooses the next point by the value of the last one, as the optimising ones do."""

import json
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


@dataclass
class DoublingConf:
    _target_: str = "hydra_plugins.doubling.Doubling"
    up_to: float = 10.0


ConfigStore.instance().store(group="hydra/sweeper", name="doubling", node=DoublingConf, provider="doubling")


class Doubling(Sweeper):
    def __init__(self, up_to):
        self.up_to = up_to

    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        tried, value = [], 1.0
        while value < self.up_to:
            batch = [[*arguments, f"lr={value}"], [*arguments, f"lr={value + 0.5}"]]
            returns = self.launcher.launch(batch, initial_job_idx=2 * len(tried))
            tried.append([one.return_value for one in returns])
            value = max(tried[-1])
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        (Path(self.config.hydra.sweep.dir) / "tried.json").write_text(json.dumps(tried))
