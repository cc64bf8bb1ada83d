"""The keys of `hydra.launcher`. Hydra imports this whenever anything starts that uses Hydra, so it imports nothing of Westward.

No `from __future__ import annotations` here: Hydra runs a plugin's modules before they are in sys.modules, where dataclasses would look
for what such texts mean.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class WestwardLauncherConf:
    """What each point asks for; a value may be an interpolation of the application's own config, and is resolved for each point.

    Those that are None are left to the job template `command`, whose keys have these names (`westward templates`).
    """

    _target_: str = "hydra_plugins.westward_launcher.launcher.WestwardLauncher"
    # the application: the interpreter that runs it (None: this one's path), and where the directory that you are in lies at the site
    python: str | None = None
    directory: str | None = None
    # do not wait: every return value is None. For a plain sweep only
    detach: bool = False
    # run there, whatever the policy prefers
    site: str | None = None
    # of what a point wrote into its output directory, so much is fetched
    fetch_mib: int = 64
    name: str | None = None
    nodes: int | None = None
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    accelerators: str | None = None
    compute: str | None = None
    accelerator_mem: str | None = None
    ntasks_per_accelerator: int | None = None
    walltime: str | None = None
    begin: str | None = None
    launcher: str | None = None
    account: str | None = None
    qos: str | None = None
    requeue: bool | None = None
    idempotent: bool | None = None
    policy: str | None = None
    setup: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    project: str | None = None
    budget: dict[str, Any] = field(default_factory=dict)
    # any other key of the template
    job: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/launcher", name="westward", node=WestwardLauncherConf, provider="westward_launcher"
)
