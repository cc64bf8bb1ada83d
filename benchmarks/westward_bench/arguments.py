"""What the benchmarks' command lines share: one-line errors, converters that say what they expect, output options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from westward_bench.provenance import cores_visible

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
"""Where launchers tell a process its rank before MPI is initialised; Slurm's last, because all ranks that an mpirun
starts inside a batch script inherit the script's own."""

_SUFFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """This process's rank as the launcher gave it, 0 without a launcher. MPI itself may see a different world."""
    for name in RANK_VARIABLES:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return 0


def parse_threads(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, numba_threads: int
) -> argparse.Namespace:
    """The options, `--threads` among them; ends the process with code 2 and one line if they are not right, or the CPUs are too few."""
    options = parser.parse_args(arguments)
    most = min(cores_visible(), numba_threads)
    if options.threads > most:
        parser.error(
            f"argument --threads: expected at most the {most} CPUs that this process may use, got {options.threads}"
        )
    return options


class OneLineParser(argparse.ArgumentParser):
    """A parser whose error is one line that names the option, printed by the first process only; exit code 2."""

    def error(self, message: str) -> NoReturn:
        if launched_rank() == 0:
            print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1, "a whole number of at least 1")


def non_negative_int(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0, "a whole number of at least 0")


def growth_factor(text: str) -> int:
    """A whole number of at least 2."""
    return _whole(text, 2, "a whole number of at least 2")


def message_bytes(text: str) -> int:
    """A number of bytes, at least 1, with an optional binary suffix: "8", "64K", "1M", "2G"."""
    expected = "a number of bytes such as 8, 64K, 1M or 2G"
    digits = text.rstrip("KMGkmg")
    factor = _SUFFIXES.get(text[len(digits) :].upper())
    if factor is None:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return _whole(digits, 1, expected, text) * factor


def _whole(text: str, least: int, expected: str, shown: str | None = None) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text if shown is None else shown!r}")
    return int(text)


def output_path(text: str) -> Path:
    """A path at which a regular file can be written: its directory exists and takes new files.

    Looked into only by the first process, which writes it; the directory may be on that one's node alone.
    """
    path = Path(text)
    if launched_rank() != 0:
        return path
    directory = Path(os.path.realpath(path)).parent
    if not text or path.is_dir() or not directory.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in an existing directory, got {text!r}")
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"expected a regular file, {text!r} is something else")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"expected a file in a writable directory, {str(directory)!r} is not")
    return path


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``--output`` and ``--json``: where the record goes."""
    group = parser.add_argument_group("result")
    group.add_argument(
        "--output", type=output_path, metavar="FILE",
        help="write the JSON record (schema westward-result/1) to FILE, whole or not at all; a file of an earlier run "
        "is removed at the start, so that one found there is of this run",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print the JSON record on stdout instead of the table")
