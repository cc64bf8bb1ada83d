"""What the playbooks compute from variables, used here as they use it: so that what is said beforehand is what they do."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

_ANSIBLE = Path(__file__).parents[1] / "_data" / "ansible"


def slurm_values() -> ModuleType:
    """`slurm_values`, `Refused`, `needs_restart`, ...: the filters that turn variables into what the templates read."""
    return _module("filter_plugins/slurm_values.py")


def slurm_accounts() -> ModuleType:
    """The module for accounts, users and QOS: its queries, how it reads their answers, and its plan."""
    return _module("library/slurm_accounts.py")


@cache
def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"westward_ansible_{Path(name).stem}", _ANSIBLE / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module
