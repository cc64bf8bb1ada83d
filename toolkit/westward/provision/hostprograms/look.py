"""What a host tells of itself: names, versions, units, keys as salted digests, space, ports, cgroups, devices. Changes nothing.

Runs on hosts as it stands (`hostprograms.program`): standard library alone, Python 3.9 and later.
"""

from __future__ import annotations

import glob
import grp
import hashlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

DAEMONS = ("slurmctld", "slurmdbd", "slurmd", "sackd", "slurmrestd")
# where slurmd finds its configuration: what slurmctld has sent it, or its own files
CONFIGURATIONS = ("/run/slurm/conf", "/etc/slurm")
COMPARED = ("slurm.conf", "gres.conf", "cgroup.conf")
# with auth/slurm even 'slurmd -G' makes the socket anew by which the commands of this host get their credentials, and leaves it dead
APART = 'test ! -d /run/slurm || mount -t tmpfs none /run/slurm || exit; exec "$@"'
CONNECT_S, PROGRAM_S, SLURMD_S = 3.0, 15.0, 45.0


def main(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to each part of the question; None for a part that could not be found out."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    parts = {
        "versions": versions,
        "units": lambda: units(question["units"]),
        "keys": lambda: {path: key(path, question["salt"]) for path in question["keys"]},
        "disks": lambda: {path: disk(path) for path in question["paths"]},
        "addresses": lambda: together(addresses, question["names"]),
        "ports": lambda: together(port, question["ports"]),
        "cgroup": lambda: cgroup(question["cgroup_mountpoint"]),
        "mpi": lambda: said(["srun", "--mpi=list"]),
        "apptainer": lambda: said(["apptainer", "--version"]),
        "slurmd": slurmd_argv,
        "files": lambda: {path: is_device(path) for path in question["files"]},
        "digests": digests,
        "gres": lambda: gres(question["node"], question["files"]),
    }
    found: dict[str, Any] = {"hostname": socket.gethostname()}
    with ThreadPoolExecutor(len(parts)) as pool:
        waiting = {name: pool.submit(part) for name, part in parts.items()}
        for name, future in waiting.items():
            try:
                found[name] = future.result()
            except (OSError, ValueError, KeyError):
                found[name] = None
    return found


def said(argv: list[str], timeout_s: float = PROGRAM_S) -> str | None:
    """Both outputs of a program; None where it is not there, or does not end."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        ran = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return ran.stdout.decode(errors="replace")


def together(ask: Any, names: list[Any]) -> dict[str, Any]:
    """The answer for each name, asked many at a time."""
    if not names:
        return {}
    with ThreadPoolExecutor(min(32, len(names))) as pool:
        answers = list(pool.map(ask, names))
    return {str(name): answers[at] for at, name in enumerate(names)}


def versions() -> dict[str, str]:
    """What each program of Slurm that is here calls itself with -V."""
    found = {name: said([name, "-V"]) for name in (*DAEMONS, "scontrol")}
    return {name: text.strip() for name, text in found.items() if text}


def units(names: list[str]) -> dict[str, dict[str, str]]:
    """Of each systemd unit whether it is there, enabled and active."""
    asked = ["LoadState", "ActiveState", "SubState", "UnitFileState"]
    text = said(["systemctl", "show", "-p", ",".join(["Id", *asked]), *names]) or ""
    found = {}
    for block in text.strip().split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in pairs:
            found[pairs["Id"].removesuffix(".service")] = {name: pairs.get(name, "") for name in asked}
    return found


def key(path: str, salt: str) -> dict[str, str]:
    """A digest that says nothing of the key to whoever has not the key, and who may read it. Empty where there is none."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return {}
    told = os.stat(path)
    return {
        "digest": hashlib.sha256(bytes.fromhex(salt) + content).hexdigest(),
        "owner": pwd.getpwuid(told.st_uid).pw_name,
        "group": grp.getgrgid(told.st_gid).gr_name,
        "mode": f"{stat.S_IMODE(told.st_mode):o}",
    }


def disk(path: str) -> dict[str, int] | None:
    """Bytes and inodes of its file system, and what of them is free; None where there is no such directory."""
    if not os.path.isdir(path):
        return None
    told = os.statvfs(path)
    return {
        "size": told.f_blocks * told.f_frsize,
        "free": told.f_bavail * told.f_frsize,
        "inodes": told.f_files,
        "inodes_free": told.f_favail,
    }


def addresses(name: str) -> list[str]:
    """What a name means here; empty where it means nothing."""
    try:
        told = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(one[4][0]) for one in told})


def port(target: str) -> str:
    """Why nobody answers at HOST:PORT; empty where somebody does."""
    host, _, number = target.rpartition(":")
    try:
        with socket.create_connection((host, int(number)), timeout=CONNECT_S):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def cgroup(mountpoint: str) -> dict[str, Any]:
    """The version of the hierarchy that is mounted there, and its controllers."""
    unified = os.path.join(mountpoint, "cgroup.controllers")
    if os.path.exists(unified):
        with open(unified) as file:
            return {"version": 2, "controllers": file.read().split()}
    try:
        names = [name for name in sorted(os.listdir(mountpoint)) if os.path.isdir(os.path.join(mountpoint, name))]
    except OSError:
        names = []
    return {"version": 1, "controllers": sorted({one for name in names for one in name.split(",")})}


def slurmd_argv() -> list[str] | None:
    """The command line of the slurmd that systemd runs; None where there is none."""
    number = (said(["systemctl", "show", "-P", "MainPID", "slurmd"]) or "0").strip()
    if not number.isdigit() or number == "0":
        return None
    with open(f"/proc/{number}/cmdline", "rb") as file:
        return [word.decode(errors="replace") for word in file.read().split(b"\0") if word]


def is_device(path: str) -> bool:
    """Whether a device is there."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def configuration() -> str | None:
    """The directory of the configuration that slurmd and the commands use here."""
    return next((one for one in CONFIGURATIONS if os.path.exists(os.path.join(one, "slurm.conf"))), None)


def digests() -> dict[str, str]:
    """Of each configuration file that all hosts share; blanks at the ends count for nothing."""
    folder = configuration()
    found = {}
    for name in COMPARED:
        path = os.path.join(folder or "/nowhere", name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                found[name] = hashlib.sha256(file.read().strip()).hexdigest()
    return found


def gres(node: str, files: list[str]) -> str | None:
    """What slurmd finds here by the configuration that it has; it starts nothing. None where this is no node, or lacks a device: slurmd waits
    for it 20 s, and ends.
    """
    folder = configuration()
    if not node or folder is None or not all(is_device(path) for path in files):
        return None
    with tempfile.TemporaryDirectory() as own:
        # auth/slurm looks for its key beside slurm.conf, and what slurmctld sends has none there
        for path in [
            *glob.glob("/etc/slurm/slurm.key"),
            *glob.glob("/etc/slurm/slurm.jwks"),
            *glob.glob(f"{folder}/*"),
        ]:
            link = os.path.join(own, os.path.basename(path))
            if not os.path.lexists(link):
                os.symlink(os.path.realpath(path), link)
        argv = ["slurmd", "-G", "-L", "/dev/null", "-N", node, "-f", os.path.join(own, "slurm.conf")]
        return said(["unshare", "--mount", "sh", "-c", APART, "sh", *argv], SLURMD_S)
