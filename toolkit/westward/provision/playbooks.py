"""The playbooks beside `site.yml`, run on the inventory of a managed cluster: what they print is handed on, how they end is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from westward import process
from westward.errors import InputError, Unreachable, Unsafe, WestwardError
from westward.provision.ansiblecode import ANSIBLE
from westward.provision.hosts import Managed, chosen, environment

# how a task of ours begins the message with which it refuses
_REFUSED = re.compile(r"(msg: ')?refused: (.*)")
_FOLDED = " " * 8  # a long message goes on in further lines, as YAML does it
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+ .*\bunreachable=(\d+)\s+failed=(\d+)")
# ansible-playbook's exit status: bits of a sum, and words of its own from 5 on
_FAILED, _UNREACHABLE = 2, 4
_BAD_OPTIONS, _INTERRUPTED = 5, 99


class Playbook:
    """One run of a playbook: each line goes to `told`, and what matters of it is kept."""

    def __init__(self, site: Managed, name: str, told: Callable[[str], None]) -> None:
        self._site = site
        self._name = name
        self._told = told
        self._refused = ""
        self._refusing = False
        self._quoted: str | None = None
        self._silent: list[str] = []
        self._failed: list[str] = []

    def play(self, variables: Mapping[str, Any], arguments: Sequence[str] = ()) -> None:
        """Run it to its end.

        Args:
            variables: given with -e, over those of the inventory. No secrets: every user of this host can read them.
            arguments: more of ansible-playbook's own.

        Raises:
            Unsafe: it refused.
            Unreachable: a host did not answer.
            WestwardError: it failed on a host.
        """
        status = process.stream(self.argv(variables, arguments), self._hear, environment=environment(), folder=ANSIBLE)
        if status:
            raise self._error(status)

    def argv(self, variables: Mapping[str, Any], arguments: Sequence[str] = ()) -> list[str]:
        """The command line, as a sysadmin would type it in `ansible/`."""
        given = ["-e", json.dumps(dict(variables))] if variables else []
        return ["ansible-playbook", *chosen(self._site.inventories), str(ANSIBLE / self._name), *given, *arguments]

    def _hear(self, line: str) -> None:
        self._refusing = self._refusing and line.startswith(_FOLDED)
        if self._refusing:
            self._refused += f" {line.strip()}"
        elif not self._refused and (refused := _REFUSED.search(line)):
            self._quoted, self._refused, self._refusing = refused[1], refused[2], True
        if recap := _RECAP.match(line):
            self._silent += [recap[1]] if recap[2] != "0" else []
            self._failed += [recap[1]] if recap[3] != "0" else []
        self._told(line)

    def _error(self, status: int) -> WestwardError:
        if self._refused:
            return Unsafe(self._refused.removesuffix("'").replace("''", "'") if self._quoted else self._refused)
        if status == _INTERRUPTED:
            return WestwardError(f"{self._name} was interrupted", "run it again: it goes on where it stopped")
        if status == _BAD_OPTIONS or (status < _BAD_OPTIONS and not self._silent and not self._failed):
            return InputError(f"ansible-playbook did not understand {self._name} or the inventory; it said why above")
        parts = [f"no answer from {', '.join(self._silent)}"] if self._silent else []
        parts += [f"it failed on {', '.join(self._failed)}, as it said above"] if self._failed else []
        error = Unreachable if self._silent else WestwardError
        return error(f"{self._name}: {'; '.join(parts) or f'exit status {status}'}")
