"""What `trial` runs on a controller: a slurmctld that nobody can reach, on files that are to be tried. Sent as a script, so it imports nothing of ours.

It is started inside namespaces of its own for network, mounts and processes, as root. What it writes is in tmpfs over the directories of the
Slurm that runs there; all of it is gone, and every process ended, when the script ends in whatever way.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ETC, RUN = Path("/etc/slurm"), Path("/run/slurmctld")
HOST = "@HOST@"  # stands in the files for this host's name
STARTS_WITHIN_S = 40.0
ANSWERS_WITHIN_S = 20.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8913, 0x8914, 0x8916, 1
_ADDRESS = "192.0.2.1"  # of nobody: RFC 5737
_LISTEN = "0A"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "RUNTIME_DIRECTORY": str(RUN)}


def main(given: dict[str, Any]) -> None:
    """Try the files and print what became of it as JSON.

    Args:
        given: `files` by name; `user`, `auth` and `port` of slurmctld; `names` of the hosts that it is to find; `state`, where the running
            slurmctld keeps its state; `nodes` and `partitions` that it is to show.
    """
    began = time.monotonic()
    os.umask(0o022)
    _bring_loopback_up()
    user = pwd.getpwnam(given["user"])
    _lay_out(given, user)
    if given["auth"] == "auth/munge":
        _start_munged()
    log = RUN / "log"
    with log.open("wb") as written:
        daemon = subprocess.Popen(["slurmctld", "-D"], stdout=written, stderr=written, **_as(user))
    answers = _listens(daemon, given["port"]) and _answers(daemon, user)
    missing = _missing(given, user) if answers else []
    if answers:
        daemon.kill()
    print(
        json.dumps(
            {
                "started": answers,
                "status": daemon.poll(),
                "missing": missing,
                "log": log.read_text(errors="replace").splitlines(),
                "interfaces": sorted(name for _, name in socket.if_nameindex()),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
    )


def _bring_loopback_up() -> None:
    """With a second address: slurmctld looks for its own by getaddrinfo, which says that a host with 127.0.0.1 alone has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
        address = struct.pack("16sHH4s16x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(_ADDRESS))
        fcntl.ioctl(any_socket, _SIOCSIFADDR, address)


def _lay_out(given: dict[str, Any], user: pwd.struct_passwd) -> None:
    """The files that are tried, in the place of those that run; and names that need no name server."""
    host = socket.gethostname().split(".")[0]
    kept = {file.name: file.read_bytes() for file in ETC.iterdir() if _stays(file, given["files"])}
    if (
        not RUN.is_dir()
    ):  # no slurmctld runs, or one of a release that needs none: nothing is made in the host's own /run
        _cover(Path("/run"), user)
        for name in ("slurmctld", "slurm", "munge"):
            Path("/run", name).mkdir()
    for path in (ETC, RUN, Path("/run/slurm"), Path(given["state"])):
        if path.is_absolute():
            _cover(path, user)
    for name, content in kept.items():
        (ETC / name).write_bytes(content)
    for name, text in given["files"].items():
        (ETC / name).write_text(text.replace(HOST, host))
    key = ETC / "slurm.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    os.chown(key, user.pw_uid, user.pw_gid)
    for folder in ("state", "spool"):
        (RUN / folder).mkdir(mode=0o700)
        os.chown(RUN / folder, user.pw_uid, user.pw_gid)
    _over("/etc/hosts", "".join(f"127.0.0.1 {name}\n" for name in ["localhost", host, *given["names"]]))
    switch = Path("/etc/nsswitch.conf")
    _over(
        str(switch),
        re.sub(r"(?m)^hosts:.*$", "hosts: files", switch.read_text() if switch.exists() else "hosts: files\n"),
    )


def _stays(file: Path, tried: dict[str, str]) -> bool:
    """Files that slurm.conf may refer to, and that no role writes."""
    return (
        file.is_file()
        and file.suffix in (".conf", ".yaml")
        and not file.name.startswith(("slurm", "topology", "plugstack"))
        and file.name not in tried
    )


def _cover(path: Path, user: pwd.struct_passwd) -> None:
    if path.is_dir():
        mode = f"mode=0755,uid={user.pw_uid},gid={user.pw_gid}"
        _call("mount", "-t", "tmpfs", "-o", mode, "westward-trial", str(path))


def _over(path: str, text: str) -> None:
    """Another text in a file's place, for this script and what it starts."""
    if Path(path).exists():
        stand_in = RUN / Path(path).name
        stand_in.write_text(text)
        stand_in.chmod(0o644)
        _call("mount", "--bind", str(stand_in), path)


def _start_munged() -> None:
    """A munged of the trial's own: its key is like no other, and its socket where slurmctld looks."""
    user = pwd.getpwnam("munge")
    for name in ("/etc/munge", "/run/munge", "/var/lib/munge", "/var/log/munge"):
        _cover(Path(name), user)
    key = Path("/etc/munge/munge.key")
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(128))
    os.chown(key, user.pw_uid, user.pw_gid)
    subprocess.Popen(
        ["munged", "--foreground", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_as(user)
    )
    until = time.monotonic() + ANSWERS_WITHIN_S
    while not Path("/run/munge/munge.socket.2").exists() and time.monotonic() < until:
        time.sleep(0.05)


def _listens(daemon: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it begins to take requests; False as soon as it has ended."""
    until = time.monotonic() + STARTS_WITHIN_S
    wanted = re.compile(rf"(?m)^ *\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 {_LISTEN} ")
    while daemon.poll() is None and time.monotonic() < until:
        if any(wanted.search(Path(f"/proc/self/net/{kind}").read_text()) for kind in ("tcp", "tcp6")):
            return True
        time.sleep(0.05)
    return False


def _answers(daemon: subprocess.Popen[bytes], user: pwd.struct_passwd) -> bool:
    until = time.monotonic() + ANSWERS_WITHIN_S
    while daemon.poll() is None and time.monotonic() < until:
        if " UP" in _shown(user, "ping"):
            return True
        time.sleep(0.2)
    return False


def _missing(given: dict[str, Any], user: pwd.struct_passwd) -> list[str]:
    """What it does not show of what the files name."""
    found = []
    for kind, key in (("partitions", "PartitionName"), ("nodes", "NodeName")):
        shown = set(re.findall(rf"(?m)^{key}=(\S+)", _shown(user, "-a", "-o", "show", kind)))
        found += [f"{key}={name}" for name in given[kind] if name not in shown]
    return found


def _shown(user: pwd.struct_passwd, *words: str) -> str:
    done = subprocess.run(
        ["scontrol", *words], capture_output=True, text=True, timeout=ANSWERS_WITHIN_S, check=False, **_as(user)
    )
    return str(done.stdout)


def _as(user: pwd.struct_passwd) -> dict[str, Any]:
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": groups,
        "env": _ENVIRONMENT,
        "cwd": "/",
        "stdin": subprocess.DEVNULL,
    }


def _call(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: {done.stderr.strip()}")
