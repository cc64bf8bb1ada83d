"""The hosts of an inventory as Ansible itself understands it, and programs on many of them at once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.slurm.fakes import FakeSlurm
from westward.errors import InputError, Unreachable, WestwardError
from westward.model.site import ShellDoor
from westward.process import Completed
from westward.provision.hosts import Hands, Host, read_inventory
from westward.slurm.client import InDoubt
from westward.slurm.commands import Answer

HOSTS = {"ctl": {}, "login": {}, "n1": {}, "n2": {}, "printer": {}}
PARTS = {
    "slurm_controller": {"hosts": {"ctl": {}}},
    "slurm_dbd": {"hosts": {"ctl": {}}},
    "slurm_login": {"hosts": {"login": {}}},
    "slurm_compute": {"children": {"h100": {"hosts": {"n1": {}, "n2": {}}}}},
    "others": {"hosts": {"printer": {}}},
}


def written(folder: Path, hosts: Mapping[str, Any] = HOSTS, parts: Mapping[str, Any] = PARTS, **variables: Any) -> Path:
    """An inventory in a directory of its own."""
    (folder / "group_vars" / "all").mkdir(parents=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict(hosts), "children": dict(parts)}}))
    (folder / "group_vars" / "all" / "slurm.yml").write_text(yaml.safe_dump(variables))
    return folder


def refused(*paths: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_inventory(paths)
    return caught.value


def test_hosts_are_those_of_the_four_groups_in_the_inventory_s_order(tmp_path: Path) -> None:
    managed = read_inventory([written(tmp_path / "site", slurm_cluster_name="sun", slurm_auth="munge")])
    assert list(managed.hosts) == ["ctl", "login", "n1", "n2"]
    assert managed.hosts["n1"].groups == {"slurm_compute", "h100"}
    assert (managed.cluster, managed.controller.name) == ("sun", "ctl")
    assert managed.variables == {"slurm_cluster_name": "sun", "slurm_auth": "munge"}
    assert [host.name for host in managed.of("slurm_login", "h100")] == ["login", "n1", "n2"]


def test_several_inventories_are_one_as_for_ansible_playbook(tmp_path: Path) -> None:
    """How to reach the hosts in one, their parts in another, as a lab and its site are written."""
    ways = tmp_path / "ways.yml"
    reached = {"ctl": {"ansible_host": "10.0.0.1", "ansible_port": 2222}, "n1": {"slurm_node_name": "node1"}}
    trust = "-o UserKnownHostsFile=/etc/site/known_hosts -o StrictHostKeyChecking=yes"
    common = {
        "ansible_user": "admin",
        "ansible_ssh_private_key_file": "/etc/site/key",
        "ansible_ssh_common_args": trust,
    }
    ways.write_text(yaml.safe_dump({"all": {"hosts": reached, "vars": common}}))
    site = written(tmp_path / "site", slurm_cluster_name="sun")
    managed = read_inventory([ways, site])
    assert managed.inventories == (ways, site)
    assert managed.controller.door == ShellDoor(
        "10.0.0.1", "admin", 2222, Path("/etc/site/key"), Path("/etc/site/known_hosts")
    )
    assert managed.hosts["n2"].door.host == "n2"
    assert {node: host.name for node, host in managed.nodes().items()} == {"node1": "n1", "n2": "n2"}


def test_templates_are_resolved_for_each_host(tmp_path: Path) -> None:
    written(
        tmp_path / "site",
        domain="example.org",
        ansible_host="{{ inventory_hostname }}.{{ domain }}",
        ansible_port="{{ 2200 + 22 }}",
        slurm_cluster_name="{{ domain | replace('.', '-') }}",
    )
    managed = read_inventory([tmp_path / "site"])
    assert {(host.door.host, host.door.port) for host in managed.of("h100")} == {
        ("n1.example.org", 2222),
        ("n2.example.org", 2222),
    }
    assert managed.cluster == "example-org"


def test_a_vaulted_file_is_read_with_its_password_and_refused_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, password = written(tmp_path / "site"), tmp_path / "password"
    password.write_text("sesame\n")
    vault = site / "group_vars" / "all" / "vault.yml"
    vault.write_text("ansible_user: hidden\nansible_become_password: not-to-be-shown\n")
    subprocess.run(["ansible-vault", "encrypt", "--vault-password-file", password, vault], check=True, timeout=60)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    assert "no vault secrets" in str(refused(site))
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    managed = read_inventory([site])
    assert managed.controller.door.user == "hidden"
    assert "not-to-be-shown" not in repr(managed)


def test_who_is_root_there_and_who_is_here_needs_no_ssh_and_no_sudo(tmp_path: Path) -> None:
    site = written(tmp_path / "site", {"ctl": {"ansible_connection": "local"}, "n1": {"ansible_user": "root"}})
    managed = read_inventory([site])
    assert managed.controller.door == ShellDoor()
    assert (managed.hosts["n1"].root, managed.hosts["n2"].root) == (True, False)


def test_an_inventory_without_a_controller(tmp_path: Path) -> None:
    parts = {name: part for name, part in PARTS.items() if name != "slurm_controller"}
    for folder, given in (("none", parts), ("empty", parts | {"slurm_controller": {}})):
        error = refused(written(tmp_path / folder, parts=given))
        assert str(error) == f"'{tmp_path / folder}': no host is in the group slurm_controller"
        assert error.next_step == "name it in slurm_controller of hosts.yml"


def test_one_of_several_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    """Ansible would warn, and go on without its hosts."""
    broken = tmp_path / "more.yml"
    broken.write_text("all:\n  hosts:\n    n3: {ansible_host: 10.0.0.3\n")
    error = str(refused(written(tmp_path / "site"), broken))
    assert "Ansible does not understand it" in error
    assert f"{broken}:4" in error


def test_a_variable_that_is_nowhere_is_named(tmp_path: Path) -> None:
    site = written(tmp_path / "site", {"ctl": {"ansible_host": "{{ nowhere }}"}})
    assert "'nowhere' is undefined" in str(refused(site))


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    assert str(refused(tmp_path / "none")) == f"there is no inventory '{tmp_path / 'none'}'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("-J gate", "-J"), ("-o ProxyJump=gate", "-o ProxyJump=gate"), ("-oProxyCommand=x", "-oProxyCommand=x")],
)
def test_arguments_of_ssh_that_only_ssh_understands(tmp_path: Path, arguments: str, said: str) -> None:
    error = refused(written(tmp_path / "site", ansible_ssh_common_args=arguments))
    assert f"ansible_ssh_common_args says '{said}'" in str(error)
    assert error.next_step == "write that into ~/.ssh/config, which Ansible and Westward both read"


# --- hands -----------------------------------------------------------------------------------------------------------------

NOBODY = ShellDoor("127.0.0.1", port=1)


def host(name: str, door: ShellDoor | None = None, root: bool = False) -> Host:
    return Host(name, name, frozenset(), door or ShellDoor(), root)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Programs of this host, which the local doors lead to."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return FakeSlurm(tmp_path / "bin")


def test_a_host_that_fails_stops_no_other(programs: FakeSlurm) -> None:
    programs.program("once", f"mkdir {programs.folder}/taken 2>/dev/null || {{ echo taken >&2; exit 7; }}; echo mine")
    told: dict[str, Answer] = {}
    with Hands(told.__setitem__) as hands:
        answers = hands.each([host("a"), host("far", NOBODY), host("b")], ["once"], as_root=False)
    assert list(answers) == ["a", "far", "b"]
    assert told == answers
    ended = [answer for answer in answers.values() if isinstance(answer, Completed)]
    assert sorted((answer.status, answer.stdout, answer.stderr) for answer in ended) == [
        (0, "mine\n", ""),
        (7, "", "taken\n"),
    ]
    assert isinstance(answers["far"], Unreachable)


def test_as_root_it_is_sudo_that_asks_for_no_password_and_none_where_the_user_is_root(programs: FakeSlurm) -> None:
    programs.program("sudo", 'shift 2; echo "root: $(cat)"; exec "$@"')
    with Hands() as hands:
        answers = hands.each([host("a"), host("b", root=True)], ["echo", "done"], stdin="a secret")
    assert {name: answer.stdout for name, answer in answers.items() if isinstance(answer, Completed)} == {
        "a": "root: a secret\ndone\n",
        "b": "done\n",
    }
    assert programs.calls("sudo") == [["-n", "--", "echo", "done"]]


def test_what_is_no_program_and_what_does_not_end_is_an_answer_of_its_host(programs: FakeSlurm) -> None:
    with Hands() as hands:
        missing = hands.run(host("a"), ["nowhere-installed"], as_root=False)
        slow = hands.run(host("a"), ["sleep", "60"], as_root=False, timeout_s=0.2)
    assert isinstance(missing, WestwardError | Completed)
    assert "nowhere-installed" in str(missing)
    assert isinstance(slow, InDoubt)


def test_no_hosts_no_answers() -> None:
    with Hands() as hands:
        assert hands.each([], ["true"]) == {}
