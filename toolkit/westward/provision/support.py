"""A support bundle: what a cluster's hosts and daemons say, in one file that anybody may be shown."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from westward.errors import StorageError, WestwardError
from westward.process import Completed
from westward.provision.clusterfacts import Facts, key_files
from westward.provision.hostprograms import ARGV, GATHER, program
from westward.provision.hostprograms.masks import without_secrets
from westward.provision.hosts import CONTROLLER, DBD, Hands, Host

GATHER_S = 120.0
# whatever authentication a cluster has: each is a key somewhere, and a log could have it
KEYS = ("/etc/slurm/slurm.key", "/etc/slurm/slurm.jwks", "/etc/slurm/jwt_hs256.key", "/etc/munge/munge.key")
QUESTIONS = {
    "jobs": ("squeue", "-a", "-o", "%i|%u|%T|%r|%P|%D|%C|%l|%S|%N"),
    "reasons": ("sinfo", "-R", "-o", "%E|%u|%H|%N"),
    "nodes-long": ("sinfo", "-N", "-l"),
    "reservations": ("scontrol", "show", "reservation"),
    "topology": ("scontrol", "show", "topology"),
}
_README = """A support bundle of the cluster {cluster}, made by 'westward site collect' at {when} UTC.
cluster/  what Slurm's commands print at a controller      doctor.json  what 'westward site doctor' finds
hosts/    by host: files (the ends of logs), journal, versions, space
Keys are not in it; passwords and tokens are masked.
{silent}"""


def gather(facts: Facts, hands: Hands) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of the bundle by their names in it, and the hosts that gave none, with the reason."""
    texts = {f"cluster/{name}.txt": text for name, text in facts.said.items()}
    texts |= {f"cluster/{name}.refused.txt": why for name, why in facts.refused.items()}
    controller = next((host for host in facts.site.of(CONTROLLER) if host.name in facts.looks), None)
    for name, argv in QUESTIONS.items() if controller else ():
        assert controller is not None
        answer = hands.run(controller, ("timeout", "20", *argv), repeat=True)
        texts[f"cluster/{name}.txt"] = answer.stdout + answer.stderr if isinstance(answer, Completed) else str(answer)
    silent: dict[str, str] = {}
    answers = hands.each(
        facts.site.hosts.values(),
        ARGV,
        stdin=lambda host: program(GATHER, question(facts, host)),
        timeout_s=GATHER_S,
        repeat=True,
    )
    for host, answer in answers.items():
        if isinstance(answer, WestwardError) or answer.status:
            silent[host] = str(answer) if isinstance(answer, WestwardError) else answer.complaint
            continue
        told: dict[str, str] = json.loads(answer.stdout.strip().splitlines()[-1])
        texts |= {f"hosts/{host}/{name}": text for name, text in told.items()}
    return {name: without_secrets(text, []) for name, text in texts.items()}, silent


def question(facts: Facts, host: Host) -> dict[str, list[str]]:
    """For `hostprograms/gather.py`: which logs, and which keys must not be in any text."""
    config = facts.config
    logs = {
        CONTROLLER: config.get("SlurmctldLogFile", "/var/log/slurm/slurmctld.log"),
        DBD: facts.configuration.dbd.settings.get("LogFile", "")
        if facts.configuration and facts.configuration.dbd
        else "/var/log/slurm/slurmdbd.log",
        "slurm_compute": config.get("SlurmdLogFile", "/var/log/slurm/slurmd.log")
        .replace("%n", host.node)
        .replace("%h", host.node),
    }
    found = [path for group, path in logs.items() if group in host.groups and path.startswith("/")]
    return {"logs": found, "keys": sorted({*KEYS, *key_files(facts)})}


def refuse_unwritable(target: Path) -> None:
    """Before anything is asked.

    Raises:
        StorageError: there is no directory to write it in.
    """
    if not target.absolute().parent.is_dir():
        raise StorageError(
            f"there is no directory '{target.absolute().parent}' to write the bundle in", "make it first"
        )


def write(target: Path, cluster: str, texts: Mapping[str, str], silent: Mapping[str, str]) -> int:
    """Write the bundle, for its owner alone, whole or not at all. Returns its size in bytes.

    Raises:
        StorageError: it cannot be written.
    """
    lines = "".join(f"no answer from {host}: {why}\n" for host, why in silent.items())
    readme = _README.format(cluster=cluster, when=time.strftime("%Y-%m-%d %H:%M", time.gmtime()), silent=lines)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")  # mode 600
        try:
            with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as bundle:
                for path, text in {"README": readme, **texts}.items():
                    _add(bundle, f"{cluster}/{path}", text)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror}") from error
    return target.stat().st_size


def _add(bundle: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode(errors="replace")
    told = tarfile.TarInfo(name)
    told.size, told.mode, told.mtime = len(content), 0o600, int(time.time())
    bundle.addfile(told, io.BytesIO(content))
