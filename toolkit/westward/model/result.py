"""What is left of a job when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from westward.errors import Unreachable
from westward.model.job import JobState


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job's end: its final state, and its outputs as they were fetched.

    Attributes:
        record: the parsed result.json, where the job promised one; None where there is none, and for an array, whose tasks have theirs.
        files: outputs by name, where they lie on this host.
        problem: why this is not a success; empty for a success. A missing output is never a success.
        away: why some outputs could not be asked for: then it is no success yet, and may be one when its site answers again.
    """

    key: str
    state: JobState
    record: Mapping[str, Any] | None
    files: Mapping[str, Path]
    problem: str = ""
    away: Unreachable | None = None

    @property
    def ok(self) -> bool:
        return self.state is JobState.COMPLETED and not self.problem and self.away is None
