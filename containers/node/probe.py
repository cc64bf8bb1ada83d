"""Is this cluster fit for use? Run as root on its controller; prints one JSON object.

    probe.py check DIRECTORY...          every node and daemon as it is now, and whether the directories can be seen
    probe.py job LIMIT_S DIRECTORY...    the same, after a job of the lab's user over all idle nodes that accounting has as COMPLETED

Both renew the user's token: it goes to standard output and nowhere else. Standard library only.
"""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from start import MUNGE_SOCKET, SSH_PORT, listens

NODE_FILE = "/etc/westward/node.json"
POLL_S = 0.05
TOKEN_LIFE_S = 7 * 24 * 3600
DAEMONS = {"slurmdbd": 6819, "slurmctld": 6817, "sshd": SSH_PORT}
FREE = {"idle", "mixed", "allocated", "drained", "draining"}
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")


def output(argv: list[str], user: dict | None = None) -> tuple[int, str]:
    """Status and text of a command, as the lab's user where one is given."""
    as_user = {"user": user["uid"], "group": user["gid"], "extra_groups": [], "cwd": user["home"]} if user else {}
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": user["home"] if user else "/root"}
    done = subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=20, **as_user
    )
    return done.returncode, (done.stdout or done.stderr).strip()


def daemons(node: dict) -> dict[str, str | int]:
    """Where each daemon of this controller listens."""
    return {
        **({"munged": MUNGE_SOCKET} if node["munge"] else {}),
        **DAEMONS,
        **({"slurmrestd": 6820} if node["rest"] else {}),
    }


def node_states(node: dict) -> dict[str, str]:
    """Of the compute nodes that are there; one that Slurm believes it could start is not."""
    status, text = output(["sinfo", "-h", "-N", "-n", ",".join(node["nodes"]), "-o", "%N %T"])
    return dict(line.split(None, 1) for line in text.splitlines()) if status == 0 else {}


def token(node: dict) -> str | None:
    if not node["rest"]:
        return None
    status, text = output(["scontrol", "token", f"username={node['user']['name']}", f"lifespan={TOKEN_LIFE_S}"])
    return text.removeprefix("SLURM_JWT=") if status == 0 else ""


def check(directories: list[str], node: dict) -> dict:
    silent = [name for name, address in daemons(node).items() if not listens(address)]
    report = {"silent": silent, "missing": [path for path in directories if not os.path.isdir(path)]}
    if not silent:
        report["nodes"] = node_states(node)
        report["token"] = token(node)
    return report


def job(limit_s: float, directories: list[str], node: dict) -> dict:
    until = time.monotonic() + limit_s
    number = state = said = ""
    while time.monotonic() < until and state not in FINAL:
        time.sleep(POLL_S)
        if not number:
            states = node_states(node) if all(map(listens, daemons(node).values())) else {}
            idle = [name for name, state in states.items() if state == "idle"]
            if not states or set(states.values()) - FREE:
                continue
            if not idle:
                return {"state": "BUSY", **check(directories, node)}  # with jobs of others: that is proof enough
            # srun and not sbatch: a batch job waits for the scheduler's first turn, three seconds after slurmctld's start
            argv = ["srun", "-J", "ready", "-w", ",".join(idle), "-N", str(len(idle)), "-t", "1", "--immediate=2"]
            status, said = output([*argv, "printenv", "SLURM_JOB_ID"], node["user"])
            number = said.split()[0] if status == 0 else ""
        else:
            text = output(["sacct", "-n", "-X", "-P", "-j", number, "-o", "State"])[1]
            state = text.split()[0] if text else ""
    return {"state": state, "said": said, **check(directories, node)}


def main(words: list[str]) -> int:
    with open(NODE_FILE) as source:
        node = json.load(source)
    report = check(words[1:], node) if words[0] == "check" else job(float(words[1]), words[2:], node)
    json.dump(report, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
