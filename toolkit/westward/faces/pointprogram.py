"""What a point of a Hydra sweep runs in its job: the application that was started here, with the overrides of the point."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from westward.errors import InputError
from westward.faces.quoting import quoted

RECORD = ".westward/point.json"
PROGRAM = ".westward/point.py"
_END = "END_OF_WESTWARD_POINT"
# what was chosen here for the launching here, or is said anew for the job
_LAUNCHING = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.mode", "hydra.run.dir")


@cache
def written() -> str:
    """Shell lines that write the program into the job's directory, from where it is run."""
    program = files("hydra_plugins.westward_launcher").joinpath("_point.py").read_text()
    return f"mkdir -p .westward\ncat >{PROGRAM} <<'{_END}'\n{program}{_END}"


def command(
    config: DictConfig, launcher: Mapping[str, Any], overrides: Sequence[str], number: int, sweep_dir: str
) -> tuple[str, ...]:
    """The words of the job's command.

    Args:
        config: of the point.
        overrides: of the point.

    Raises:
        InputError: the application cannot be started anew: there is no file or module of it.
    """
    here = os.getcwd()
    directory = launcher["directory"] or here
    script, module = _application()
    sweeper = config.hydra.runtime.choices["hydra/sweeper"]
    told = {
        "script": _moved(script, here, directory) if script else None,
        "module": module,
        "directory": directory,
        "flags": _flags(here, directory),
        "launcher": launcher,
        "sweeper": sweeper,
        "sweeper_config": None if sweeper == "basic" else OmegaConf.to_container(config.hydra.sweeper, resolve=False),
    }
    passed = [
        *_passed_on(OmegaConf.to_container(config.hydra.overrides.hydra)),
        *_passed_on(overrides),
        "hydra/launcher=westward",
        *([f"hydra/sweeper={sweeper}"] if sweeper != "basic" else []),
        "hydra.mode=RUN",
        f"hydra.job.num={number}",
        f"hydra.sweep.dir={quoted(sweep_dir)}",
    ]
    return (launcher["python"] or sys.executable, PROGRAM, json.dumps(told), *passed)


def _application() -> tuple[str | None, str | None]:
    """The script that was started, or the module where it was started with -m."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return None, spec.name.removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if not file:
        raise InputError(
            "this application is neither a script nor a module: its jobs could not start it", "python SCRIPT -m ..."
        )
    return os.path.abspath(file), None


def _moved(path: str, here: str, directory: str) -> str:
    """Where a file lies at the site: below `directory` what lies below `here`."""
    inside = Path(path).is_relative_to(here)
    return str(Path(directory) / Path(path).relative_to(here)) if inside else path


def _flags(here: str, directory: str) -> list[str]:
    """Where Hydra was told to look for configurations."""
    from hydra._internal.utils import get_args_parser

    args, _ = get_args_parser().parse_known_args(sys.argv[1:])
    told = {"--config-name": args.config_name, "--config-path": args.config_path, "--config-dir": args.config_dir}
    return [f"{flag}={_moved(value, here, directory)}" for flag, value in told.items() if value]


def _passed_on(overrides: Any) -> list[str]:
    """Those of the application and of what Hydra does for it."""
    return [text for text in overrides if not _is_about_launching(text)]


def _is_about_launching(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return any(key == one or key.startswith(f"{one}.") for one in _LAUNCHING)
