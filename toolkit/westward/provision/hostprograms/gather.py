"""What goes into a support bundle from a host: its files of Slurm, its logs' ends, its versions; no key, no password.

Runs on hosts as it stands, behind `masks.py` (`hostprograms.program`): standard library alone, Python 3.9 and later.
"""

from __future__ import annotations

import glob
import os
import subprocess
from typing import Any

from westward.provision.hostprograms.masks import without_secrets

FILES = (
    "/etc/slurm/*.conf",
    "/etc/slurm/*.yaml",
    "/etc/slurm/*.d/*.conf",
    "/run/slurm/conf/*.conf",
    "/run/slurm/conf/*.yaml",
    "/etc/default/slurm*",
    "/etc/default/sackd",
    "/etc/systemd/system/slurm*.service.d/*.conf",
    "/etc/os-release",
    "/etc/hosts",
    "/proc/cmdline",
    "/proc/mounts",
)
UNITS = ("slurmctld", "slurmdbd", "slurmd", "sackd", "slurmrestd", "munge", "mariadb")
PROGRAMS = {
    "versions": ["sh", "-c", "for p in slurmctld slurmdbd slurmd scontrol; do command -v $p >/dev/null && echo $p: $($p -V); done; uname -a"],
    "dmesg": ["sh", "-c", "dmesg 2>&1 | tail -n 300"],
    "space": ["df", "-h"],
    "memory": ["free", "-m"],
    "units": ["systemctl", "status", "--no-pager", "-n", "0", *UNITS],
    "addresses": ["ip", "-brief", "address"],
}  # fmt: skip
FILE_BYTES, LOG_BYTES, PROGRAM_S = 256 * 1024, 512 * 1024, 20.0


def main(question: dict[str, Any]) -> dict[str, str]:
    """File names of the bundle with their texts."""
    keys = [content for path in question["keys"] if (content := end_of(path, FILE_BYTES)) is not None]
    found: dict[str, bytes | None] = {}
    for pattern in FILES:
        for path in sorted(glob.glob(pattern)):
            found["files" + path] = end_of(path, FILE_BYTES)
    for path in question["logs"]:
        found["files" + path] = end_of(path, LOG_BYTES)
    for name, argv in PROGRAMS.items():
        found[name + ".txt"] = said(argv)
    for unit in UNITS:
        found[f"journal/{unit}.txt"] = said(["journalctl", "--no-pager", "-o", "short-iso", "-n", "500", "-u", unit])
    texts = {name: content.decode(errors="replace") for name, content in found.items() if content}
    return {name: without_secrets(text, keys) for name, text in texts.items()}


def end_of(path: str, most: int) -> bytes | None:
    """The last bytes of a file; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            if not path.startswith("/proc/"):
                file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most)
    except OSError:
        return None


def said(argv: list[str]) -> bytes | None:
    """Both outputs of a program, cut at their beginning; None where it is not there, or does not end."""
    try:
        ran = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout[-LOG_BYTES:]
