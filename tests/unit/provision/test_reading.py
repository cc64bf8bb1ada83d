"""A cluster read from one of its hosts: its files, and what may not be read, by name."""

from __future__ import annotations

import pytest

from unit.provision.hosts import PASSWORD, Host
from unit.provision.hosts import host as host  # a fixture
from westward.errors import InputError, SiteRefused, Unreachable
from westward.provision.reading import SECRETS, without_secrets
from westward.slurm.conf import parse_text


def test_files_with_what_they_include(host: Host) -> None:
    reading = host.read()
    assert (reading.version, reading.cluster) == ("24.11.5", "Altbau")
    assert reading.sources == {
        "slurm.conf": f"{host.etc}/slurm.conf, {host.etc}/nodes.conf",
        "gres.conf": f"{host.etc}/gres.conf",
        "topology.conf": f"{host.etc}/topology.conf",
        "slurmdbd.conf": f"{host.etc}/slurmdbd.conf",
        "accounting": "sacctmgr",
    }
    assert list(reading.configuration.nodes) == ["n1", "n2"]
    assert reading.notes == (f"its files are in {host.etc}, and the roles write to /etc/slurm",)


def test_no_password_leaves_the_host(host: Host) -> None:
    host.change("slurmdbd.conf", f"StoragePass={PASSWORD}", f"storagepass=\\\n{PASSWORD}")
    reading = host.read()
    assert PASSWORD not in repr(reading) and reading.configuration.dbd is not None
    assert reading.configuration.dbd.settings["StoragePass"] == SECRETS["StoragePass"]


def test_the_socket_of_munge_is_no_password() -> None:
    conf = without_secrets(parse_text("AccountingStoragePass=/run/munge/socket\nJobCompPass=x"))
    assert dict(conf.settings) == {
        "AccountingStoragePass": "/run/munge/socket",
        "JobCompPass": "{{vault_slurm_jobcomp_pass}}",
    }


def test_a_slurm_conf_that_is_not_there_is_named(host: Host) -> None:
    (host.etc / "slurm.conf").unlink()
    with pytest.raises(InputError, match=r"slurm\.conf' cannot be read there: it is not there") as caught:
        host.read()
    assert caught.value.next_step == "name the controller, or add --sudo"


@pytest.mark.parametrize("name", ["gres.conf", "topology.conf", "topology.yaml", "cgroup.conf"])
def test_what_the_roles_would_write_anew_has_to_be_read(host: Host, name: str) -> None:
    (host.etc / name).unlink(missing_ok=True)
    (host.etc / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}' is there and cannot be read: Is a directory"):
        host.read()


def test_a_slurmdbd_conf_that_may_not_be_read_is_a_note(host: Host) -> None:
    (host.etc / "slurmdbd.conf").unlink()
    (host.etc / "slurmdbd.conf").mkdir()
    reading = host.read()
    assert reading.configuration.dbd is None
    assert f"{host.etc}/slurmdbd.conf is there and could not be read (Is a directory); --sudo reads it" in reading.notes


def test_a_bad_line_is_named_with_its_file(host: Host) -> None:
    host.change("nodes.conf", "PartitionName=long", "PartitionName long")
    with pytest.raises(InputError, match=rf"^{host.etc}/nodes.conf:6: KEY=VALUE was expected, not 'PartitionName long"):
        host.read()


def test_an_included_file_that_is_not_there_is_named(host: Host) -> None:
    (host.etc / "nodes.conf").unlink()
    with pytest.raises(InputError, match=r"nodes\.conf', which is included, cannot be read: it is not there"):
        host.read()


def test_files_that_the_roles_do_not_write_are_told(host: Host) -> None:
    (host.etc / "job_submit.lua").touch()
    assert f"also in {host.etc}, and left alone by the roles: job_submit.lua" in host.read().notes


def test_files_that_were_changed_without_a_reconfigure_are_told(host: Host) -> None:
    host.change(
        "scontrol-config.txt", "HASH_VAL                = Match", "HASH_VAL                = Different Ours=0x1"
    )
    assert any("HASH_VAL" in note for note in host.read().notes)


def test_nodes_on_one_side_alone_are_told(host: Host) -> None:
    host.change("nodes.conf", "# bought in 2016", "\nNodeName=n7\nNodeName=f[1-9] State=FUTURE")
    host.change("scontrol-node.txt", "NodeName=n2", "NodeName=dyn1")
    notes = host.read().notes
    assert "slurmctld has nodes that no file names (dynamic ones?): dyn1" in notes
    assert "nodes of the files that slurmctld does not show: n2, n7" in notes


def test_a_cluster_without_accounting_is_not_asked_for_it(host: Host) -> None:
    host.change("scontrol-config.txt", "accounting_storage/slurmdbd", "(null)")
    assert host.read().accounting is None
    assert host.programs.calls("sacctmgr") == []


def test_an_accounting_that_refuses_is_a_note(host: Host) -> None:
    host.programs.program("sacctmgr", "echo 'sacctmgr: error: slurmdbd: Connection refused' >&2; exit 1")
    reading = host.read()
    assert reading.accounting is None
    assert "Connection refused" in reading.notes[-1]


def test_a_host_without_slurm_or_without_slurmctld(host: Host) -> None:
    host.programs.program(
        "scontrol", "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1"
    )
    with pytest.raises(Unreachable, match="Unable to contact slurm controller"):
        host.read()
    (host.programs.folder / "scontrol").unlink()
    with pytest.raises((SiteRefused, Unreachable), match="'scontrol' is not installed"):
        host.read()
