"""Texts that are kept whole, in files that are read and committed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def as_kept(text: str, file: Path) -> bool:
    """Whether a text is what its file has; with WESTWARD_UPDATE_GOLDEN set it is written there first."""
    if os.environ.get("WESTWARD_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()
    return True


def bash_reads(script: str) -> bool:
    """Whether bash can parse it, and has nothing to say of it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return True
