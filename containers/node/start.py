"""What runs first in a node of a lab: starts the daemons in order, says when each is ready, stops them on SIGTERM.

The order matters: a new slurmctld hangs without slurmdbd, and a slurmd that finds no slurmctld asks again only after 10 s.
Nothing is ever restarted from here: a daemon that dies in a lab is something its user wants to see.

Reads /etc/westward/node.json; standard library only.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable

NODE_FILE = "/etc/westward/node.json"
ACCOUNTING_DONE = "/var/lib/slurm/accounting-done"
LOGS = "/var/log/slurm"
POLL_S = 0.01
ACCEPTS, LISTENS = 0x10000, "0A"  # as /proc/net/unix and /proc/net/tcp write it
LIMIT_S = 60.0
SSH_PORT = 2222
MUNGE_SOCKET = "/run/munge/munge.socket.2"
BEGAN = time.monotonic()

running: list[tuple[str, subprocess.Popen]] = []


class Failed(Exception):
    """A daemon did not come up; args are its name and what is known."""


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:.2f} {text}", flush=True)


def listens(address: str | int) -> bool:
    """Does somebody here listen on this Unix socket or TCP port? Read from /proc: to connect and hang up is an error in their logs."""
    if isinstance(address, str):
        with open("/proc/net/unix") as table:
            return any(
                words[-1] == address and int(words[3], 16) & ACCEPTS for words in map(str.split, list(table)[1:])
            )
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as lines:
                for words in map(str.split, list(lines)[1:]):
                    if words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == address:
                        return True
    return False


def reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def slurmctld_answers() -> bool:
    done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return "is UP" in done.stdout


def wait_for(
    name: str, ready: Callable[[], bool], daemon: subprocess.Popen | None = None, poll_s: float = POLL_S
) -> None:
    """Wait until `ready`.

    Raises:
        Failed: the daemon ended before that, or time ran out.
    """
    until = time.monotonic() + LIMIT_S
    while not ready():
        if daemon is not None and daemon.poll() is not None:
            raise Failed(name, f"ended with status {daemon.returncode}")
        if time.monotonic() > until:
            raise Failed(name, f"was not ready within {LIMIT_S:.0f} s")
        time.sleep(poll_s)


def start(
    name: str,
    argv: list[str],
    user: str | int,
    address: str | int,
    environment: dict[str, str] | None = None,
    group: str | int | None = None,
) -> None:
    """Start a daemon in the foreground as `user`, its output in a log of its own, and wait until it listens.

    Args:
        group: that of the same name as the user where none is given.
    """
    say(f"{name} starting")
    with open(f"{LOGS}/{name}.log", "ab") as log:
        daemon = subprocess.Popen(
            argv,
            user=user,
            group=user if group is None else group,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(environment or {})},
            cwd="/",
            start_new_session=True,
        )
    running.append((name, daemon))
    wait_for(name, lambda: listens(address), daemon)
    if name == "slurmctld":  # it listens long before it answers
        wait_for(name, slurmctld_answers, daemon)
    say(f"{name} ready")


def add_user(user: dict) -> None:
    """The ordinary user of the lab, with the same uid on every node, as a directory service would give."""
    with open("/etc/passwd", "r+") as passwd, open("/etc/group", "r+") as group:
        if any(line.startswith(f"{user['name']}:") for line in passwd):
            return
        if not any(line.split(":")[2] == str(user["gid"]) for line in group):
            group.write(f"{user['name']}:x:{user['gid']}:\n")
        passwd.write(f"{user['name']}:x:{user['uid']}:{user['gid']}::{user['home']}:/bin/bash\n")


def make_devices(paths: list[str]) -> None:
    """Device files for accelerators that are not there: Slurm counts files, and nobody can open these."""
    for minor, path in enumerate(paths):
        if not os.path.exists(path):
            os.mknod(path, stat.S_IFCHR, os.makedev(195, minor))
            os.chmod(path, 0o666)


def sacctmgr(lines: list[str]) -> None:
    """Tell accounting; what is already there is no error."""
    done = subprocess.run(["sacctmgr", "-i"], input="\n".join(lines) + "\n", text=True, capture_output=True)
    with open(f"{LOGS}/sacctmgr.log", "a") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode != 0 or "error" in done.stderr.lower():
        raise Failed("sacctmgr", f"ended with status {done.returncode}")


def copy_database_seed() -> None:
    """The first start's database directory, whole or not at all."""
    if not os.path.exists("/var/lib/mysql"):
        subprocess.run(["cp", "-a", "/var/lib/mysql-seed", "/var/lib/mysql-copy"], check=True)
        os.rename("/var/lib/mysql-copy", "/var/lib/mysql")


def start_munge(node: dict) -> None:
    """Everything of Slurm that is older than auth/slurm asks munge who speaks."""
    if node["munge"]:
        start("munged", ["munged", "--foreground", "--force"], "munge", MUNGE_SOCKET)


def start_controller(node: dict) -> None:
    start_munge(node)
    copy_database_seed()
    start(
        "mariadbd",
        ["mariadbd", "--defaults-file=/etc/mysql/conf.d/westward.cnf", "--init-file=/etc/westward/database.sql"],
        "mysql",
        "/run/mysqld/mysqld.sock",
    )
    start("slurmdbd", ["slurmdbd", "-D"], "slurm", 6819)
    if not os.path.exists(ACCOUNTING_DONE):
        sacctmgr(node["accounting"])
        say("accounting ready")
    start("slurmctld", ["slurmctld", "-D"], "slurm", 6817)
    sshd = ["/usr/sbin/sshd", "-D", "-e", "-f", "/usr/lib/westward/sshd_config"]
    start("sshd", sshd, node["user"]["uid"], SSH_PORT, group=node["user"]["gid"])
    if node["rest"]:
        start(
            "slurmrestd",
            ["slurmrestd", "-a", "rest_auth/jwt", "0.0.0.0:6820"],
            "slurmrestd",
            6820,
            # without CAP_SYS_ADMIN it cannot unshare; the container is its own namespace already
            {"SLURM_JWT": "daemon", "SLURMRESTD_SECURITY": "disable_unshare_sysv,disable_unshare_files"},
        )
    open(ACCOUNTING_DONE, "w").close()


def start_compute(node: dict) -> None:
    make_devices(node["devices"])
    os.chown("/run/slurm", 0, 0)  # from 25.11 on slurmd takes no directory of another user for its socket
    start_munge(node)
    if node["rest"]:  # the last daemon that the controller starts
        wait_for("slurmrestd", lambda: reachable(node["controller"], 6820), poll_s=0.05)
    else:  # it listens long before it answers; with auth/slurm nobody can ask it from a node whose slurmd is not there yet
        wait_for("slurmctld", lambda: reachable(node["controller"], 6817), poll_s=0.05)
        wait_for("slurmctld", slurmctld_answers, poll_s=0.05)
    start("slurmd", ["slurmd", "-D"], "root", 6818)


def stop(*_) -> None:
    """Stop in reverse order; docker kills what is left after its own limit."""
    for name, daemon in reversed(running):
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                say(f"{name} did not stop in time")
    sys.exit(0)


def last_lines(name: str, count: int = 15) -> str:
    try:
        with open(f"{LOGS}/{name}.log", errors="replace") as log:
            return "".join(log.readlines()[-count:])
    except OSError:
        return ""


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with open(NODE_FILE) as source:
        node = json.load(source)
    add_user(node["user"])
    try:
        (start_controller if node["role"] == "controller" else start_compute)(node)
    except Failed as failure:
        name, what = failure.args
        say(f"{name} FAILED: {what}")
        sys.stdout.write(last_lines(name))
        return 1
    say("node ready")
    reported = set()
    while True:
        for name, daemon in running:
            if daemon.poll() is not None and name not in reported:
                reported.add(name)
                say(f"{name} ended with status {daemon.returncode}")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
