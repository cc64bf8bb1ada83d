"""The options of sbatch and how they are written: sbatch(1), OPTIONS and INPUT ENVIRONMENT VARIABLES; words are read as getopt_long(3) does.

What a manual page leaves open was tried with the sbatch of 24.11 and 26.05: which options take a value, what is a unique beginning, that
nothing is read behind the first word that is no option, and which values switch an option on from the environment. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from westward.errors import InputError
from westward.model.batchscript import Given


class Takes(Enum):
    """Whether an option has a value. One that MAY have it takes it behind "=" (or, of a short option, in the same word) only."""

    VALUE = "value"
    MAY = "may"
    NOTHING = "nothing"


_VALUE = [
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint", "clusters",
    "comment", "constraint", "container", "container-id", "core-spec", "cores-per-socket", "cpus-per-gpu",
    "cpus-per-task", "deadline", "delay-boot", "dependency", "distribution", "error", "exclude", "export",
    "export-file", "extra", "extra-node-info", "gid", "gpu-bind", "gpu-freq", "gpus", "gpus-per-node",
    "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint", "input", "job-name", "kill-on-invalid-dep",
    "licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-per-cpu", "mem-per-gpu", "mincpus", "network",
    "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node",
    "ntasks-per-socket", "ntasks-per-tres", "open-mode", "output", "partition", "prefer", "priority", "profile",
    "qos", "reservation", "segment", "signal", "sockets-per-node", "switches", "tasks-per-node", "thread-spec",
    "threads-per-core", "time", "time-min", "tmp", "tres-bind", "tres-per-task", "uid", "wait-all-nodes", "wckey",
    "wrap",
]  # fmt: skip
_MAY = ["exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports"]
_NOTHING = [
    "contiguous", "help", "hold", "ignore-pbs", "no-requeue", "overcommit", "oversubscribe", "parsable", "quiet",
    "reboot", "requeue", "spread-job", "stepmgr", "test-only", "usage", "use-min-nodes", "verbose", "version",
    "wait",
]  # fmt: skip
OPTIONS: Mapping[str, Takes] = {
    **dict.fromkeys(_VALUE, Takes.VALUE),
    **dict.fromkeys(_MAY, Takes.MAY),
    **dict.fromkeys(_NOTHING, Takes.NOTHING),
}
# options that Pyxis adds to sbatch where a site has it; only by their full names
PYXIS: Mapping[str, Takes] = {
    **dict.fromkeys(
        ("container-image", "container-mounts", "container-workdir", "container-name", "container-save", "container-env"),
        Takes.VALUE,
    ),
    **dict.fromkeys(
        ("container-mount-home", "no-container-mount-home", "container-remap-root", "no-container-remap-root",
         "container-entrypoint", "no-container-entrypoint", "container-writable", "container-readonly"),
        Takes.NOTHING,
    ),
}  # fmt: skip
SHORT: Mapping[str, str] = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task", "D": "chdir",
    "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help", "i": "input", "J": "job-name",
    "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks", "O": "overcommit",
    "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec", "s": "oversubscribe", "t": "time", "V": "version",
    "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_ALIASES = {"tasks-per-node": "ntasks-per-node"}
_ENVIRONMENT = {
    "SBATCH_ACCOUNT": "account", "SBATCH_ACCTG_FREQ": "acctg-freq", "SBATCH_ARRAY_INX": "array", "SBATCH_BATCH": "batch",
    "SLURM_CLUSTERS": "clusters", "SBATCH_CLUSTERS": "clusters", "SBATCH_CONSTRAINT": "constraint", "SBATCH_CONTAINER": "container",
    "SBATCH_CONTAINER_ID": "container-id", "SBATCH_CORE_SPEC": "core-spec", "SBATCH_CPUS_PER_GPU": "cpus-per-gpu",
    "SBATCH_DELAY_BOOT": "delay-boot", "SBATCH_DISTRIBUTION": "distribution", "SBATCH_ERROR": "error", "SBATCH_EXCLUSIVE": "exclusive",
    "SBATCH_EXPORT": "export", "SBATCH_GET_USER_ENV": "get-user-env", "SBATCH_GPU_BIND": "gpu-bind", "SBATCH_GPU_FREQ": "gpu-freq",
    "SBATCH_GPUS": "gpus", "SBATCH_GPUS_PER_NODE": "gpus-per-node", "SBATCH_GPUS_PER_TASK": "gpus-per-task", "SBATCH_GRES": "gres",
    "SBATCH_GRES_FLAGS": "gres-flags", "SLURM_HINT": "hint", "SBATCH_HINT": "hint", "SBATCH_IGNORE_PBS": "ignore-pbs",
    "SBATCH_INPUT": "input", "SBATCH_JOB_NAME": "job-name", "SBATCH_MEM_PER_CPU": "mem-per-cpu", "SBATCH_MEM_PER_GPU": "mem-per-gpu",
    "SBATCH_MEM_PER_NODE": "mem", "SBATCH_NETWORK": "network", "SBATCH_NO_KILL": "no-kill", "SBATCH_NO_REQUEUE": "no-requeue",
    "SBATCH_OPEN_MODE": "open-mode", "SBATCH_OUTPUT": "output", "SBATCH_OVERCOMMIT": "overcommit", "SBATCH_PARTITION": "partition",
    "SBATCH_PROFILE": "profile", "SBATCH_QOS": "qos", "SBATCH_REQ_SWITCH": "switches", "SBATCH_REQUEUE": "requeue",
    "SBATCH_RESERVATION": "reservation", "SBATCH_SIGNAL": "signal", "SBATCH_SPREAD_JOB": "spread-job",
    "SBATCH_THREAD_SPEC": "thread-spec", "SBATCH_THREADS_PER_CORE": "threads-per-core", "SBATCH_TIMELIMIT": "time",
    "SBATCH_TRES_BIND": "tres-bind", "SBATCH_TRES_PER_TASK": "tres-per-task", "SBATCH_USE_MIN_NODES": "use-min-nodes",
    "SBATCH_WAIT": "wait", "SBATCH_WAIT_ALL_NODES": "wait-all-nodes", "SBATCH_WCKEY": "wckey",
}  # fmt: skip
_LONGEST_WAIT = "SBATCH_WAIT4SWITCH"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of options, and where it stands.

    Attributes:
        where: how a message begins that is about it, e.g. "train.sbatch: line 4".
        origin, line: as in `Given`.
    """

    text: str
    where: str
    origin: str
    line: int | None = None


def read_words(words: Sequence[Word], more: Mapping[str, Takes] | None = None) -> tuple[list[Given], Sequence[Word]]:
    """The options at the beginning of `words`, and the rest, which begins with the first word that is no option.

    Args:
        more: further long options, known by their full names only.

    Raises:
        InputError: an option is not known, ambiguous, or lacks its value or has one too many.
    """
    found: list[Given] = []
    known = {**PYXIS, **(more or {})}
    position = 0
    while position < len(words):
        word = words[position]
        if word.text == "--":
            return found, words[position + 1 :]
        if word.text == "-" or not word.text.startswith("-"):
            return found, words[position:]
        follows = words[position + 1] if position + 1 < len(words) else None
        taken, used = _long(word, follows, known) if word.text.startswith("--") else _shorts(word, follows)
        found += taken
        position += 1 + used
    return found, ()


def _long(word: Word, follows: Word | None, more: Mapping[str, Takes]) -> tuple[list[Given], int]:
    """One long option, and how many words behind it are its value."""
    begun, equals, value = word.text[2:].partition("=")
    name = begun if begun in more else _full_name(word, begun)
    takes = more[name] if name in more else OPTIONS[name]
    name = _ALIASES.get(name, name)
    if equals:
        if takes is Takes.NOTHING:
            _refuse(word, f"--{name} takes no value, and has '{value}'", f"write --{name}")
        return [Given(name, value, word.origin, word.line)], 0
    if takes is not Takes.VALUE:
        return [Given(name, None, word.origin, word.line)], 0
    if follows is None:
        _refuse(word, f"--{name} needs a value", f"write --{name}=...")
    return [Given(name, follows.text, word.origin, word.line)], 1


def _full_name(word: Word, begun: str) -> str:
    """The option of that name, or the only one that begins so; two names of one option are one."""
    if begun in OPTIONS:
        return begun
    fitting = sorted(name for name in OPTIONS if name.startswith(begun)) if begun else []
    if len({_ALIASES.get(name, name) for name in fitting}) == 1:
        return fitting[0]
    if fitting:
        _refuse(word, f"'--{begun}' is ambiguous: {', '.join(f'--{name}' for name in fitting)}", "write the whole name")
    _refuse(word, f"'--{begun}' is no option of sbatch", "see OPTIONS in sbatch(1)")


def _shorts(word: Word, follows: Word | None) -> tuple[list[Given], int]:
    """The short options of one word, of which the last may have a value, there or in the next word."""
    found: list[Given] = []
    letters = word.text[1:]
    for place, letter in enumerate(letters):
        if letter not in SHORT:
            _refuse(word, f"'-{letter}' is no option of sbatch", "see OPTIONS in sbatch(1)")
        name, rest = SHORT[letter], letters[place + 1 :]
        takes = OPTIONS[name]
        if takes is Takes.NOTHING:
            found.append(Given(name, None, word.origin, word.line))
            continue
        if takes is Takes.MAY or rest:
            return [*found, Given(name, rest or None, word.origin, word.line)], 0
        if follows is None:
            _refuse(word, f"-{letter} (--{name}) needs a value", f"write --{name}=...")
        return [*found, Given(name, follows.text, word.origin, word.line)], 1
    return found, 0


def read_environment(variables: Mapping[str, str]) -> list[Given]:
    """The options in SBATCH_... variables. An option without a value is on for an empty text, "yes" and a number but zero."""
    found = []
    for variable, name in _ENVIRONMENT.items():
        value = variables.get(variable)
        if value is None:
            continue
        if OPTIONS[name] is Takes.NOTHING:
            if _is_on(value):
                found.append(Given(name, None, variable))
            continue
        if name == "switches" and _LONGEST_WAIT in variables:
            value = f"{value}@{variables[_LONGEST_WAIT]}"
        found.append(Given(name, value or (None if OPTIONS[name] is Takes.MAY else ""), variable))
    return found


def _is_on(value: str) -> bool:
    return value in ("", "yes") or (value.isdecimal() and int(value) != 0)


def command_words(words: Iterable[str]) -> list[Word]:
    """Words of a command line."""
    return [Word(word, "command line", "the command line") for word in words]


def _refuse(word: Word, problem: str, next_step: str) -> NoReturn:
    raise InputError(f"{word.where}: {problem}", next_step)
