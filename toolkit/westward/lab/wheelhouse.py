"""What an image is built from and no package mirror has: files of a Python index, downloaded on the host. A build itself reaches no index."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from westward import process
from westward.directories import cache_dir
from westward.errors import WestwardError
from westward.lab.nodetree import make_whole
from westward.lab.progress import Say


def ensure_wheelhouse(requirements: Path, source: str, say: Say) -> Path:
    """A directory with every file that `requirements` names, each checked against its digest there; downloaded where it is missing.

    Args:
        source: the package that comes as source; all others come as wheels for any Python and machine.

    Raises:
        WestwardError: pip could not get them.
    """
    text = requirements.read_text()
    target = cache_dir() / "wheelhouse" / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not target.is_dir():
        pins = re.findall(r"^[a-z]\S+", text, re.MULTILINE)
        say(f"downloading {', '.join(pins)}")
        make_whole(target, lambda draft: _download(draft, requirements, source))
    return target


def _download(draft: Path, requirements: Path, source: str) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(draft)]
    argv += ["--require-hashes", "--no-deps", "--platform", "any", "--no-binary", source, "-r", str(requirements)]
    try:
        process.run(argv, timeout_s=600)
    except process.CommandFailed as error:
        raise WestwardError(
            f"what an image is built from could not be had: {error}",
            f"see that 'pip download --no-deps {source}' works here, and run again",
        ) from error
