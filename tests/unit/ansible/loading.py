"""Python files of `ansible/` as modules: they lie beside the playbook, in no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ANSIBLE = Path(__file__).parents[3] / "ansible"


def load(place: str) -> ModuleType:
    """The module in that file, as `library/slurm_accounts.py`."""
    path = ANSIBLE / place
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
