"""The text of Slurm's configuration files, from the templates in `slurm/conf/`: the same for roles, labs and plans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parents[1] / "_data" / "slurm" / "conf"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text of `slurm.conf`, `gres.conf`, `cgroup.conf`, `slurmdbd.conf`, `topology.conf` or `topology.yaml`."""
    return _environment().get_template(f"{template}.j2").render(values)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
