"""What `import westward` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import westward

HEAVY = ("hydra", "numpy", "sqlalchemy", "rich", "typer", "fabric", "jinja2")


def test_importing_it_loads_nothing_of_it() -> None:
    code = f"import sys, westward; print([name for name in (*{HEAVY!r}, 'westward.faces', 'westward.jobs') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_type_checkers_see_what_there_is() -> None:
    tree = ast.parse(Path(westward.__file__).read_text())
    (only_checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in only_checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == westward._HOMES
    for name in westward._HOMES:
        assert getattr(westward, name).__doc__
    assert set(seen) <= set(dir(westward))


def test_what_it_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sumbit'"):
        _ = westward.sumbit


def test_nothing_of_the_api_prints() -> None:
    code = "import westward\ntry:\n    westward.submit('gemm')\nexcept westward.WestwardError as error:\n    assert error.next_step"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
