"""What the playbooks compute from variables, used here as they use it: so that what is said beforehand is what they do."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ANSIBLE = Path(__file__).parents[1] / "_data" / "ansible"


def slurm_values() -> ModuleType:
    """`slurm_values` and `Refused`: the filter that turns variables into what the templates read."""
    return load("filter_plugins/slurm_values.py")


@cache
def sacctmgr(part: str) -> ModuleType:
    """A part of what the module slurm_accounts works with: `keys`, `state`, `wanted` or `plan`."""
    package = importlib.import_module("ansible.module_utils")
    beside = str(ANSIBLE / "module_utils")
    # Ansible sends them with a module under this name, whichever directory they are from
    if beside not in package.__path__:
        package.__path__.append(beside)
    return importlib.import_module(f"ansible.module_utils.sacctmgr.{part}")


def slurm_releases() -> ModuleType:
    """`RELEASES` in their order, and `reach`: how many before it each understands."""
    return load("filter_plugins/slurm_releases.py")


@cache
def load(name: str) -> ModuleType:
    """The module in a file below `ansible/`, such as `filter_plugins/slurm_changes.py`: they lie beside the playbook, in no package."""
    spec = importlib.util.spec_from_file_location(f"westward_ansible_{Path(name).stem}", ANSIBLE / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module
