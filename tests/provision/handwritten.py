"""A cluster as people made them by hand: munge, one slurm.conf copied to every host, nothing configless. Its files are in tests/data."""

from __future__ import annotations

from pathlib import Path

from provision.sites import Fleet
from westward.jobs.side_by_side import side_by_side
from westward.lab import engine
from westward.lab.engine import FileInNode

FILES = Path(__file__).parents[1] / "data" / "provision" / "handwritten" / "etc"
PASSWORD = "sesam-oeffne-dich"  # the one in slurmdbd.conf
HOSTS = ("ctl", "n1", "n2")
_PACKAGES = {"ctl": ("slurmctld", "slurmdbd", "slurm-client", "mariadb-server", "munge")}
_NODE_PACKAGES = ("slurmd", "slurm-client", "munge")
_ACCOUNTING = """
sacctmgr -i add cluster Altbau
sacctmgr -i add qos eilig set Priority=100 MaxWall=24:00:00 MaxTRESPerUser=node=2
sacctmgr -i add account physik Description='Institut A' Fairshare=40
sacctmgr -i add account optik parent=physik GrpTRES=cpu=6
sacctmgr -i add account chemie set QOS=normal,eilig
sacctmgr -i add user root account=physik
sacctmgr -i add user admin account=optik,chemie DefaultAccount=chemie
sacctmgr -i modify user admin account=optik set MaxJobs=5
"""


def make(fleet: Fleet) -> None:
    """Install and start it: a controller with the accounting, and two nodes."""
    key = FileInNode("/root/munge.key", b"k" * 128, 0o600)
    side_by_side(lambda host: _install(fleet, host, key), HOSTS)
    _start_controller(fleet)
    side_by_side(lambda host: fleet.said(host, "systemctl", "restart", "slurmd"), ("n1", "n2"))
    fleet.until("ctl", ("sinfo", "-h", "-p", "long", "-o", "%D %T"), "2 idle")


def _install(fleet: Fleet, host: str, key: FileInNode) -> None:
    # nothing is started before its configuration is there
    _sh(fleet, host, "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d")
    packages = " ".join(_PACKAGES.get(host, _NODE_PACKAGES))
    _sh(
        fleet,
        host,
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq;"
        f" apt-get install -qq -y --no-install-recommends {packages} >/dev/null",
    )
    copied = [
        FileInNode(f"/etc/slurm/{name}", (FILES / name).read_bytes(), 0o644)
        for name in ("slurm.conf", "nodes.conf", "gres.conf", "topology.conf")
    ]
    engine.put_files(fleet.client, f"{fleet.lab.name}.{host}", [*copied, key])
    _sh(
        fleet,
        host,
        "install -o munge -g munge -m 400 /root/munge.key /etc/munge/munge.key; systemctl restart munge;"
        " install -d /var/spool/slurmd; rm /usr/sbin/policy-rc.d",
    )


def _start_controller(fleet: Fleet) -> None:
    dbd = FileInNode("/root/slurmdbd.conf", (FILES / "slurmdbd.conf").read_bytes(), 0o600)
    engine.put_files(fleet.client, f"{fleet.lab.name}.ctl", [dbd])
    _sh(
        fleet,
        "ctl",
        f"""
        systemctl start mariadb
        mariadb -e "CREATE DATABASE slurm_acct_db; CREATE USER slurm@localhost IDENTIFIED BY '{PASSWORD}';
                    GRANT ALL ON slurm_acct_db.* TO slurm@localhost"
        install -o slurm -g slurm -m 600 /root/slurmdbd.conf /etc/slurm/slurmdbd.conf
        install -d -o slurm -g slurm /var/spool/slurmctld
        install -o slurm -g slurm /dev/null /var/log/slurm-ctld.log
        install -o slurm -g slurm /dev/null /var/log/slurmdbd.log
        systemctl start slurmdbd""",
    )
    fleet.until("ctl", ("sacctmgr", "-n", "show", "qos", "format=name"), "normal")
    _sh(fleet, "ctl", _ACCOUNTING)
    fleet.said("ctl", "systemctl", "start", "slurmctld")


def _sh(fleet: Fleet, host: str, script: str) -> None:
    fleet.said(host, "sh", "-c", f"set -e\n{script}")
