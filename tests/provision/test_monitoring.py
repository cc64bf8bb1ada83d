"""What Prometheus reads from the hosts, also while slurmctld is away; and logs that are rotated."""

from __future__ import annotations

import pytest

from provision.sites import Fleet, Played

pytestmark = pytest.mark.lab
SCRAPE = (
    "python3",
    "-c",
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9100/metrics').read().decode())",
)


def test_node_exporter_has_slurms_metrics_on_one_host(fleet: Fleet, first: Played) -> None:
    for host in ("ctl2", "login", "n1", "n2"):
        told = fleet.said(host, *SCRAPE)
        assert "node_load1 " in told
        assert "\nslurm_" not in told
    job = fleet.said(
        "login", "sbatch", "--parsable", "-w", "n1", "--gres=gpu:h100:3", "-o", "/dev/null", "--wrap", "sleep 600"
    )
    told = fleet.until("ctl", SCRAPE, 'slurm_gpus{state="allocated",type="h100"} 3')
    fleet.said("login", "scancel", job.strip())
    assert 'slurm_jobs{partition="gpu",state="running"} 1' in told
    assert 'slurm_controller_up{host="ctl2",role="backup"} 1' in told
    assert "slurm_up 1" in told
    assert 'node_textfile_mtime_seconds{file="/var/lib/prometheus/node-exporter/slurm.prom"}' in told


def test_a_cluster_that_does_not_answer_is_told_and_nothing_old_of_it(fleet: Fleet, first: Played) -> None:
    """Both controllers are stopped; jobs would run on."""
    for host in ("ctl2", "ctl"):
        fleet.said(host, "systemctl", "stop", "slurmctld")
    try:
        told = fleet.until("ctl", SCRAPE, "\nslurm_up 0")
        samples = [line for line in told.splitlines() if line.startswith("slurm_")]
        assert samples == [
            'slurm_controller_up{host="ctl",role="primary"} 0',
            'slurm_controller_up{host="ctl2",role="backup"} 0',
            "slurm_up 0",
        ]
    finally:
        for host in ("ctl", "ctl2"):
            fleet.said(host, "systemctl", "start", "slurmctld")
    fleet.until("ctl", SCRAPE, "\nslurm_up 1")
    fleet.until("login", ("scontrol", "ping"), "(backup) at ctl2 is UP")


def test_a_daemon_goes_on_in_a_new_file_when_its_log_is_rotated(fleet: Fleet, first: Played) -> None:
    for host, daemon in (("ctl", "slurmctld"), ("ctl", "slurmdbd"), ("n1", "slurmd")):
        log = f"/var/log/slurm/{daemon}.log"
        before = fleet.said(host, "pidof", daemon)
        # an empty one is left alone
        fleet.said(host, "sh", "-c", f"echo >>{log}; logrotate -f /etc/logrotate.d/{daemon}")
        assert fleet.said(host, "pidof", daemon) == before
        fleet.until(host, ("sh", "-c", f"ls -l /proc/$(systemctl show -P MainPID {daemon})/fd"), f"-> {log}\n")
    level = fleet.said("login", "scontrol", "show", "config").split("SlurmctldDebug")[1].split("\n")[0].strip(" =")
    fleet.said("ctl", "scontrol", "setdebug", level)
    assert "Set debug level" in fleet.said("ctl", "cat", "/var/log/slurm/slurmctld.log")
    assert fleet.said("ctl", "systemctl", "is-enabled", "logrotate.timer") == "enabled\n"
