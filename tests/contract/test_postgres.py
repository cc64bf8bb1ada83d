"""The ledger on a real PostgreSQL: every test that SQLite passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unit.store.databases import POSTGRES

pytestmark = pytest.mark.lab
UNIT = Path(__file__).parents[1] / "unit"


@pytest.mark.full
def test_all_that_holds_of_sqlite_holds_of_postgresql(postgres_url: str, tmp_path: Path):
    assert "@" in postgres_url and not re.search(r"//[^@/]*:[^@/]*@", postgres_url), (
        "the password is in a file of its own"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "postgres", f"--basetemp={tmp_path / 'inner'}", str(UNIT / "store"), str(UNIT / "jobs"),
         str(UNIT / "federation" / "test_sweeping.py")],
        env={**os.environ, POSTGRES: postgres_url},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 100, done.stdout[-2000:]
