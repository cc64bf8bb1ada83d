"""How a playbook ends becomes an error that says which host, and an exit code. `ansible-playbook` here is a program that prints what it would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from westward.errors import InputError, Unreachable, Unsafe, WestwardError
from westward.provision.playbooks import Playbook

RECAP = "{host}                       : ok=4    changed=1    unreachable={silent}    failed={failed}    skipped=0    rescued=0    ignored=0"
Prints = Callable[..., None]


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prints:
    def program(status: int, *lines: str) -> None:
        (tmp_path / "said").write_text("".join(f"{line}\n" for line in lines))
        file = tmp_path / "ansible-playbook"
        file.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{tmp_path}/argv\ncat {tmp_path}/said\n{status if isinstance(status, str) else f'exit {status}'}\n"
        )
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def playbook(heard: list[str]) -> Playbook:
    return Playbook([Path("/inv/a"), Path("/inv/b")], "backup.yml", heard.append)


def test_what_it_prints_is_handed_on(prints: Prints, playbook: Playbook, heard: list[str], tmp_path: Path) -> None:
    prints(
        0,
        "TASK [Tell]",
        """    msg: 'westward: backup=/srv/2026'""",
        RECAP.format(host="ctl", silent=0, failed=0),
    )
    playbook.play({"slurm_backup_to": "/srv"}, ["--diff"])
    assert heard[0] == "TASK [Tell]"
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[:4] == ["-i", "/inv/a", "-i", "/inv/b"]
    assert argv[4].endswith("/ansible/backup.yml")
    assert argv[5] == "-e"
    assert json.loads(argv[6]) == {"slurm_backup_to": "/srv"}
    assert argv[7:] == ["--diff"]


@pytest.mark.parametrize(
    ("status", "lines", "kind", "says"),
    [
        (2, ["    msg: 'refused: ctl is not fresh'", RECAP.format(host="ctl", silent=0, failed=1)], Unsafe, "ctl is not fresh"),
        (2, ["    msg: 'refused: it is of ''site'',", "        and this is ''other'" + "''", "", RECAP.format(host="ctl", silent=0, failed=1)], Unsafe, "^it is of 'site', and this is 'other'$"),
        (2, ["[ERROR]: Task failed: refused: it is of 'site'", "    msg: 'refused: it is", RECAP.format(host="ctl", silent=0, failed=1)], Unsafe, "^it is of 'site'$"),
        (2, [RECAP.format(host="n1", silent=0, failed=1)], WestwardError, "it failed on n1"),
        (2, ["[ERROR]: Task failed: Unknown error", "fatal: [n1]: FAILED! =>", "    msg: no room", "", RECAP.format(host="n1", silent=0, failed=1)], WestwardError, "it failed on n1: no room$"),
        (2, ["TASK [slurm : Install] ***", "fatal: [n1]: FAILED! =>", "    msg: no room", "", "fatal: [n2]: FAILED! =>", "    msg: something else", "", RECAP.format(host="n1", silent=0, failed=1), RECAP.format(host="n2", silent=0, failed=0)], WestwardError, "it failed on n1 at 'slurm : Install': no room$"),
        (4, [RECAP.format(host="n2", silent=1, failed=0)], Unreachable, "no answer from n2"),
        (6, [RECAP.format(host="n1", silent=0, failed=2), RECAP.format(host="n2", silent=1, failed=0)], Unreachable, "no answer from n2; it failed on n1"),
        (4, ["ERROR! the playbook could not be parsed"], InputError, "did not understand"),
        (5, ["usage: ansible-playbook"], InputError, "did not understand"),
        (99, [], WestwardError, "interrupted"),
        ("kill $$", [], WestwardError, "interrupted"),
    ],
)  # fmt: skip
def test_how_it_ends(
    prints: Prints, playbook: Playbook, status: int | str, lines: list[str], kind: type[WestwardError], says: str
) -> None:
    prints(status, *lines)
    with pytest.raises(kind, match=says) as raised:
        playbook.play({})
    assert type(raised.value) is kind


def test_without_ansible_it_says_so(playbook: Playbook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="ansible-playbook"):
        playbook.play({})
