"""Playbooks, run on the inventory of a managed cluster: what they print is handed on, and how they end is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from westward import process
from westward.errors import InputError, Unreachable, Unsafe, WestwardError
from westward.provision.ansiblecode import ANSIBLE
from westward.provision.hosts import chosen, environment

# how a task of ours begins the message with which it refuses
_REFUSED = re.compile(r"(msg: ')?refused: (.*)")
_FOLDED = " " * 8  # a long message goes on in further lines, as YAML does it
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\]")
_FATAL = re.compile(r"^fatal: \[([^\]]+?)(?: -> [^\]]+)?\]")
_COMPLAINT = re.compile(r"^(fatal: \[|ERROR|\[ERROR\])")
_MESSAGE = re.compile(r"(?:msg|message): *(?:[>|]-?\n)?((?:.+\n?)+)")
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+ .*\bunreachable=(\d+)\s+failed=(\d+)")
# ansible-playbook's exit status: bits of a sum, and words of its own from 5 on
_FAILED, _UNREACHABLE = 2, 4
_BAD_OPTIONS, _INTERRUPTED = 5, 99


class Output:
    """What ansible-playbook prints, heard line by line, and what it means.

    Attributes:
        silent: hosts that it did not reach.
        failed: hosts on which it failed, each with the task.
    """

    def __init__(self) -> None:
        self.silent: list[str] = []
        self.failed: dict[str, str] = {}
        self._task = ""
        self._at: dict[str, str] = {}
        self._refused: list[str] = []
        self._refusing = self._quoted = False
        self._complaint: list[str] = []
        self._complaining = False

    def hear(self, line: str) -> None:
        """The next line."""
        self._hear_refusal(line)
        self._hear_complaint(line)
        if task := _TASK.match(line):
            self._task = task[1]
        elif fatal := _FATAL.match(line):
            self._at[fatal[1]] = self._task
        elif recap := _RECAP.match(line):
            self.silent += [recap[1]] if recap[2] != "0" else []
            self.failed |= {recap[1]: self._at.get(recap[1], "")} if recap[3] != "0" else {}

    def _hear_refusal(self, line: str) -> None:
        self._refusing = self._refusing and line.startswith(_FOLDED)
        if self._refusing:
            self._refused.append(line.strip())
        elif not self._refused and (refused := _REFUSED.search(line)):
            self._quoted, self._refused, self._refusing = bool(refused[1]), [refused[2]], True

    def _hear_complaint(self, line: str) -> None:
        if line == "...ignoring" and self._complaining:
            self._complaint, self._complaining = [], False
            return
        begins = _COMPLAINT.match(line)
        # what a host says of its failure says more than what Ansible says of that
        if begins and (not self._complaint or (begins[1] == "fatal: [" and not self._complaint[0].startswith("fatal"))):
            self._complaint, self._complaining = [], True
        self._complaining = self._complaining and bool(line)
        if self._complaining:
            self._complaint.append(line)

    @property
    def refusal(self) -> str:
        """Why a task of ours refused; empty where none did."""
        told = " ".join(self._refused)
        return told.removesuffix("'").replace("''", "'") if self._quoted else told

    @property
    def complaint(self) -> str:
        """The first thing that it complains of; empty where it does not."""
        told = "\n".join(self._complaint)
        message = _MESSAGE.search(told)
        return " ".join((message[1] if message else told).split())

    @property
    def failures(self) -> str:
        """The hosts on which it failed, with the task."""
        return ", ".join(f"{host} at '{task}'" if task else host for host, task in self.failed.items())


class Playbook:
    """One run of a playbook: each line goes to `told`, and what it means is in `output`."""

    def __init__(self, inventories: Iterable[Path], name: str, told: Callable[[str], None]) -> None:
        self._inventories = tuple(inventories)
        self._name = name
        self._told = told
        self.output = Output()

    def play(self, variables: Mapping[str, Any], arguments: Sequence[str] = ()) -> None:
        """Run it to its end.

        Args:
            variables: given with -e, over those of the inventory. No secrets: every user of this host can read them.
            arguments: more of ansible-playbook's own.

        Raises:
            Unsafe: it refused.
            InputError: Ansible did not understand it.
            Unreachable: a host did not answer, or Ansible is not installed here.
            WestwardError: it failed on a host.
        """
        status = process.stream(self.argv(variables, arguments), self._hear, environment=environment(), folder=ANSIBLE)
        if status:
            raise self._error(status)

    def argv(self, variables: Mapping[str, Any], arguments: Sequence[str] = ()) -> list[str]:
        """The command line, as a sysadmin would type it in `ansible/`."""
        given = ["-e", json.dumps(dict(variables))] if variables else []
        return ["ansible-playbook", *chosen(self._inventories), str(ANSIBLE / self._name), *given, *arguments]

    def _hear(self, line: str) -> None:
        self.output.hear(line)
        self._told(line)

    def _error(self, status: int) -> WestwardError:
        output = self.output
        if output.refusal:
            return Unsafe(output.refusal)
        if status == _INTERRUPTED or status < 0:  # by a key, or by a signal
            return WestwardError(f"{self._name} was interrupted", "run it again: it goes on where it stopped")
        if status == _BAD_OPTIONS or (status < _BAD_OPTIONS and not output.silent and not output.failed):
            why = output.complaint or "it said why above"
            return InputError(f"ansible-playbook did not understand {self._name} or the inventory: {why}")
        parts = [f"no answer from {', '.join(output.silent)}"] if output.silent else []
        parts += [f"it failed on {output.failures}: {output.complaint}"] if output.failed else []
        error = Unreachable if output.silent else WestwardError
        return error(f"{self._name}: {'; '.join(parts) or f'exit status {status}'}")
