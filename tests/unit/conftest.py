"""No test here touches what the person at this machine keeps: not the ledger, not the sites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["COLUMNS"] = "200"  # consoles take it when their module is imported, by whichever test comes first


@pytest.fixture(autouse=True)
def nobody_s_own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
