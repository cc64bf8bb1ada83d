"""The controller of a cluster that was made by hand: its files, and what its commands printed, on this host."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from unit.slurm.fakes import FakeSlurm
from westward.provision import accounts
from westward.provision.reading import Reading, read_cluster
from westward.slurm.commands import LocalCommands

HANDWRITTEN = Path(__file__).parents[2] / "data" / "provision" / "handwritten"
PASSWORD = "sesam-oeffne-dich"


@dataclass(frozen=True)
class Host:
    """`etc` are its files, `said` is what its commands print."""

    etc: Path
    said: Path
    programs: FakeSlurm

    def change(self, name: str, before: str, after: str) -> None:
        """Of a file, or of what a command prints."""
        file = (self.said if name.endswith(".txt") else self.etc) / name
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))

    def read(self) -> Reading:
        return read_cluster(LocalCommands(), accounts.queries())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    etc, said = tmp_path / "etc", tmp_path / "said"
    shutil.copytree(HANDWRITTEN / "etc", etc)
    shutil.copytree(HANDWRITTEN / "said", said)
    (tmp_path / "bin").mkdir()
    made = Host(etc, said, FakeSlurm(tmp_path / "bin"))
    made.change("scontrol-config.txt", "/etc/slurm/slurm.conf", str(etc / "slurm.conf"))
    made.programs.program("scontrol", f'for what; do :; done; cat "{said}/scontrol-$what.txt"')
    asked = '*OnlyDefaults*) n=defaults;; *"show assoc"*) n=associations;; *"show user"*) n=users;; *"show account"*) n=accounts;;'
    made.programs.program("sacctmgr", f'case "$*" in {asked} *) n=qos;; esac; cat "{said}/sacctmgr-$n.txt"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return made
