"""The URL of a door: what it means, and what is refused before anybody is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from westward.catalogue.address import DoorOptions, door_at, rest_url_problem
from westward.errors import InputError
from westward.model.site import Door, NativeDoor, RestDoor, ShellDoor

KEY, HOSTS, TOKEN = Path("/home/me/key"), Path("/home/me/hosts"), Path("/home/me/token")
ALL = DoorOptions("u17", TOKEN, ("renew", "--now"), KEY, HOSTS, "/opt/slurm/bin", ("sign", "me"))


@pytest.mark.parametrize(
    ("url", "options", "door"),
    [
        ("ssh://login.west", DoorOptions(), ShellDoor("login.west")),
        ("ssh://u17@login.west", DoorOptions(), ShellDoor("login.west", "u17")),
        ("ssh://u17@Login-West:2222/", DoorOptions(), ShellDoor("Login-West", "u17", 2222)),
        ("ssh://me@[::1]:22", DoorOptions(), ShellDoor("::1", "me", 22)),
        ("ssh://login", ALL, ShellDoor("login", "u17", None, KEY, HOSTS, "/opt/slurm/bin", ("sign", "me"))),
        ("ssh://other@login", ALL, ShellDoor("login", "other", None, KEY, HOSTS, "/opt/slurm/bin", ("sign", "me"))),
        ("local", DoorOptions(), ShellDoor()),
        ("local", ALL, ShellDoor(commands="/opt/slurm/bin")),
        ("native", ALL, NativeDoor()),
        ("https://gate.west:6820", ALL, RestDoor("https://gate.west:6820", "u17", TOKEN, ("renew", "--now"))),
        ("http://127.0.0.1:6820", ALL, RestDoor("http://127.0.0.1:6820", "u17", TOKEN, ("renew", "--now"))),
        ("http://[::1]:6820", ALL, RestDoor("http://[::1]:6820", "u17", TOKEN, ("renew", "--now"))),
        ("unix:///run/slurmrestd.sock", ALL, RestDoor("unix:///run/slurmrestd.sock", "u17", TOKEN, ("renew", "--now"))),
    ],
)
def test_a_url_means_a_door(url: str, options: DoorOptions, door: Door) -> None:
    assert door_at(url, options) == door


@pytest.mark.parametrize(
    "url",
    [
        "", "login.west", "telnet://x", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://u@h/home", "ssh://u:pw@h",
        "ssh://h:port", "ssh://h:0", "ssh://h:99999", "ssh://h?x", "ssh://-u@h", "http://gate.west:6820", "http://10.0.0.1", "https://",
        "https://u:pw@h", "https://h:x", "https://h/?a=b", "unix://run/x", "unix:", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        door_at(url, ALL)


def test_a_token_goes_over_no_network_in_the_clear() -> None:
    assert "in the clear" in rest_url_problem("http://gate.west:6820")
    assert not rest_url_problem("http://localhost:6820")


@pytest.mark.parametrize(
    ("options", "step"), [(DoorOptions(token_file=TOKEN), "--user"), (DoorOptions(user="u17"), "--token-file")]
)
def test_what_slurmrestd_needs_beside_its_address_is_asked_for(options: DoorOptions, step: str) -> None:
    with pytest.raises(InputError) as caught:
        door_at("https://gate.west", options)
    assert step in caught.value.next_step


@pytest.mark.parametrize("url", ["u17@login.west", "login.west", "u17@login.west:2222", "Login_West"])
def test_a_bare_host_is_told_how_to_write_it(url: str) -> None:
    with pytest.raises(InputError, match="is not a way to a cluster") as caught:
        door_at(url, ALL)
    assert caught.value.next_step == f"ssh://{url}"


@pytest.mark.parametrize("url", ["", "u17@login.west:/home", "unix:", "telnet://x", "a b", "u:pw@h"])
def test_what_is_no_host_either_is_not_made_one(url: str) -> None:
    with pytest.raises(InputError) as caught:
        door_at(url, ALL)
    assert "ssh://" not in caught.value.next_step


@pytest.mark.parametrize("url", ["https://gate.west", "http://localhost:6820", "unix:///run/s", "ssh://h", "local"])
@pytest.mark.parametrize("user", ["", "-u", "a b", "u\n", "u\r\nX-SLURM-USER-TOKEN: x", "ü", "a/b"])
def test_a_user_is_of_the_form_that_a_description_takes(url: str, user: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a user"):
        door_at(url, replace(ALL, user=user))


@pytest.mark.parametrize("url", ["ssh://h", "local"])
@pytest.mark.parametrize("commands", ["", "bin", "~/slurm/bin"])
def test_the_directory_of_the_commands_is_one_that_a_description_takes(url: str, commands: str) -> None:
    with pytest.raises(InputError, match="from / on") as caught:
        door_at(url, DoorOptions(commands=commands))
    assert "--commands /opt/slurm/bin" in caught.value.next_step
