"""Reads an existing batch script as sbatch does, and keeps it to the byte. Pure, but for `load`.

The rules are those of sbatch(1): DESCRIPTION for the first line, the directives and where they end, OPTIONS for what they say, INPUT
ENVIRONMENT VARIABLES for the order of precedence, HETEROGENEOUS JOBS. What the page leaves open was tried with sbatch 24.11:

- The words of all `#SBATCH` lines are one list: the value of an option may stand on the next such line.
- `#SBATCH` stands at the very beginning of its line, with or without white space behind it.
- A line is split like a shell's, except that a backslash counts within single quotes too; an unquoted `#` begins a comment, also in the
  middle of a word; an empty word ends its line.
- `#PBS` and `#BSUB` lines are translated wherever they stand in the script, behind the first command and in here-documents too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from westward.errors import InputError
from westward.model.batchscript import BatchScript, Given
from westward.model.job import VARIABLE
from westward.slurm.sbatchoptions import Takes, Word, command_words, read_environment, read_words

DIRECTIVE = "#SBATCH"
SPACE = " \t\n\v\f\r"  # isspace(3) in the C locale
MOST_BYTES = 4 * 1024**2  # slurm.conf(5), max_script_size
_SEPARATORS = ("hetjob", "packjob")
_OTHERS = ("#PBS", "#BSUB")
# options that sbatch knows and that cannot be had here: why, and what to do
REFUSED: Mapping[str, tuple[str, str]] = {
    "hold": ("a job is held until it is recorded, and then let go", "leave it out; --begin=... lets it start later"),
    "clusters": ("the site is chosen by Westward", "leave it out; name the site with --site"),
    "cluster-constraint": ("the site is chosen by Westward", "leave it out; name the site with --site"),
    "uid": ("it is for root only", "leave it out"),
    "gid": ("it is for root only", "leave it out"),
    "export-file": ("the file is on the host where sbatch runs", "name the variables with --export=NAME=VALUE"),
    "nodefile": ("the file is on the host where sbatch runs", "name the nodes with --nodelist"),
    "test-only": ("it submits nothing", "leave it out; 'westward route --plan' shows what would be submitted"),
    "wrap": ("it takes the place of a script", "westward submit command 'command=[...]'"),
}
# what is about sbatch's own output or waiting, and not about the job; sbatch itself takes no notice of some of them within a script
NOT_THE_JOB = frozenset(
    ["help", "usage", "version", "parsable", "quiet", "verbose", "wait", "get-user-env", "ignore-pbs"]
)
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")


def load(path: Path) -> str:
    """The text of a script.

    Raises:
        InputError: it cannot be read, or sbatch would not take it for a script.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the script '{path}': {error.strerror}", "westward route SCRIPT [ARGUMENT]..."
        ) from error
    return as_script(content, str(path))


def as_script(content: bytes, name: str) -> str:
    """The text of a script, which begins with `#!` and has neither DOS line breaks nor zero bytes (sbatch refuses those too).

    Raises:
        InputError: it is none.
    """
    if not content.strip():
        raise InputError(f"{name}: there is nothing in it", "write #!/bin/bash and its commands there")
    if len(content) > MOST_BYTES:
        raise InputError(
            f"{name}: it has {len(content):,} bytes; a cluster takes {MOST_BYTES:,}",
            "put the data into a file of its own",
        )
    if not content.startswith(b"#!"):
        raise InputError(
            f"{name}: line 1: a batch script begins with #! and its interpreter", "write #!/bin/bash there"
        )
    for mark, what, step in (
        (b"\0", "it has a zero byte in it", "is it a program? start it from a script"),
        (b"\r\n", "it has DOS line breaks (CRLF)", f"dos2unix {name}"),
    ):
        if mark in content:
            raise InputError(f"{name}: line {_line_of(content, content.index(mark))}: {what}", step)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = _line_of(content, error.start)
        raise InputError(
            f"{name}: line {line}: it has a byte that is no UTF-8 text", f"convert it: iconv -f latin1 -t utf8 {name}"
        ) from error


def read_script(
    file: str,
    text: str,
    *,
    environment: Mapping[str, str] | None = None,
    command_line: Sequence[Given] = (),
    arguments: Sequence[str] = (),
    submitted_from: str = "/",
) -> BatchScript:
    """A script with all the options that it is submitted with: the command line's over the environment's over its own.

    Raises:
        InputError: something in it cannot be read, or cannot be had; the message names the line.
    """
    variables = environment or {}
    given = (*script_options(file, text), *read_environment(variables), *command_line)
    script = BatchScript(file, text, given, tuple(arguments), submitted_from)
    _check(script)
    exported = _exported(script, variables)
    return BatchScript(file, text, given, tuple(arguments), submitted_from, exported)


def script_options(file: str, text: str) -> list[Given]:
    """The options of a script's own #SBATCH lines, in their order.

    Raises:
        InputError: one of them cannot be read; the message names its line.
    """
    words = [word for line, rest in _directives(text) for word in _words(file, line, rest)]
    options, left = read_words(words)
    if left:
        said = left[0]
        raise InputError(
            f"{said.where}: '{said.text}' is no option",
            "a value with white space in it is quoted; a comment begins with '#'",
        )
    return options


def split_command_line(words: Sequence[str], more: Mapping[str, Takes]) -> tuple[list[Given], list[str]]:
    """sbatch's options of a command line, and the script with its arguments. `more` are options of our own."""
    options, rest = read_words(command_words(words), more)
    return options, [word.text for word in rest]


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a script with their numbers; nothing but \\n ends one."""
    yield from enumerate(text.split("\n"), 1)


def first_command(text: str) -> int:
    """The number of the first line that is neither blank nor a comment: behind it no #SBATCH line counts. Beyond the end where there is none."""
    return next((number for number, line in lines(text) if _is_command(line)), text.count("\n") + 2)


def _is_command(line: str) -> bool:
    stripped = line.lstrip(SPACE)
    return bool(stripped) and not stripped.startswith("#")


def _directives(text: str) -> Iterator[tuple[int, str]]:
    end = first_command(text)
    for number, line in lines(text):
        if number >= end:
            return
        if line.startswith(DIRECTIVE):
            yield number, line.removeprefix(DIRECTIVE)


def _words(file: str, number: int, text: str) -> Iterator[Word]:
    """The words of one directive."""
    where = f"{file}: line {number}"
    position = 0
    while True:
        while position < len(text) and text[position] in SPACE:
            position += 1
        if position == len(text) or text[position] == "#":
            return
        if text[position] == ":":
            _no_hetjob(where, "a ':' there separates the parts of a heterogeneous job")
        word, position = _word(where, text, position)
        if not word:
            return
        if word in _SEPARATORS:
            _no_hetjob(where, f"'{word}' begins another part of a heterogeneous job")
        yield Word(word, where, f"line {number}", number)


def _word(where: str, text: str, position: int) -> tuple[str, int]:
    """The word that begins at `position`, and where it ends."""
    made: list[str] = []
    quote = ""
    while position < len(text):
        char = text[position]
        if char == "\\":
            made.append(text[position + 1 : position + 2])
            position += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                made.append(char)
        elif char in "\"'":
            quote = char
        elif char in SPACE or char == "#":
            break
        else:
            made.append(char)
        position += 1
    if quote:
        raise InputError(f"{where}: a {quote} is not closed", "close it, or write a backslash before it")
    return "".join(made), min(position, len(text))


def _no_hetjob(where: str, what: str) -> NoReturn:
    raise InputError(
        f"{where}: {what}, and Westward submits none: its parts have several Slurm ids, of which one start cannot be made sure",
        "make a job of each part, or submit this one with sbatch itself",
    )


def _check(script: BatchScript) -> None:
    """What cannot be had although sbatch can read it."""
    options = script.options
    for name, (why, next_step) in REFUSED.items():
        given = options.get(name)
        # sbatch takes no notice of these two in a script
        if given and not (given.line and name in ("wrap", "test-only")):
            raise InputError(f"{place(script, given)}: --{name}: {why}", next_step)
    memory = [options[name] for name in _MEMORY if name in options]
    if len(memory) > 1:
        said = ", ".join(f"{given} ({given.origin})" for given in memory)
        raise InputError(f"{script.file}: {said}: one of them excludes the others", "leave one of them")
    if "ignore-pbs" not in options:
        _no_other_directives(script)
    dependency = options.get("dependency")
    if dependency and "singleton" in re.split("[,?]", dependency.value or ""):
        raise InputError(
            f"{place(script, dependency)}: --dependency=singleton waits for jobs of the same name, and each job of Westward's has a name of its own",
            "wait for the job itself: --dependency=afterany:KEY",
        )


def _no_other_directives(script: BatchScript) -> None:
    for number, line in lines(script.text):
        other = next((mark for mark in _OTHERS if line.startswith(mark)), None)
        if other:
            raise InputError(
                f"{script.file}: line {number}: a {other} line: sbatch would translate it, more or less; Westward does not",
                f"say it with #SBATCH; or leave out all such lines with '#SBATCH --ignore-pbs', or --ignore-pbs before {script.file}",
            )


def _exported(script: BatchScript, variables: Mapping[str, str]) -> dict[str, str]:
    """What --export names, with its values; ALL is the login environment at the site."""
    given = script.options.get("export")
    if given is None or given.value in ("ALL", "NONE", "NIL"):
        return {}
    found = {}
    for word in (given.value or "").split(","):
        name, equals, value = word.partition("=")
        if word in ("ALL", ""):
            continue
        if not VARIABLE.fullmatch(name):
            raise InputError(
                f"{place(script, given)}: --export: '{name}' is not the name of a variable", "--export=ALL,NAME=VALUE"
            )
        if equals or name in variables:
            found[name] = value if equals else variables[name]
    return found


def place(script: BatchScript, given: Given) -> str:
    """Where an option was given, as a message begins."""
    return f"{script.file}: line {given.line}" if given.line else given.origin


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
