"""sbatch's long options -> fields of a REST job, for `Submission.options`. Pure.

Every line of the table was checked on live clusters (24.11 and 26.05; what only scripts of a user's own say, on 24.11): the same job sent by sbatch and by slurmrestd gives the same
record at slurmctld. What is not in it has no field, a meaning that depends on the login host (a time zone, its limits), or was
not checked: such a submission needs a shell door, which takes every option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from westward.errors import QuantityError
from westward.model.units import parse_memory, parse_walltime

Fields = dict[str, Any]
# [B:]SIGNAL[@SECONDS]
SIGNAL = re.compile(r"(?:(?P<batch>B):)?(?P<signal>[A-Za-z0-9]+)(?:@(?P<seconds>\d{1,5}))?")
SIGNAL_SECONDS = 60  # sbatch(1): the default of --signal
_GPUS = re.compile(r"(?:(?P<type>[A-Za-z_][\w.-]*):)?(?P<count>\d+)")
_MAIL = {
    "BEGIN": ["BEGIN"], "END": ["END"], "FAIL": ["FAIL"], "REQUEUE": ["REQUEUE"], "STAGE_OUT": ["STAGE_OUT"], "NONE": [],
    "INVALID_DEPEND": ["INVALID_DEPENDENCY"], "ARRAY_TASKS": ["ARRAY_TASKS"], "TIME_LIMIT": ["TIME=100%"],
    "TIME_LIMIT_90": ["TIME=90%"], "TIME_LIMIT_80": ["TIME=80%"], "TIME_LIMIT_50": ["TIME=50%"],
    "ALL": ["BEGIN", "END", "FAIL", "REQUEUE", "INVALID_DEPENDENCY", "STAGE_OUT"],
}  # fmt: skip
_SHARED = {"": "none", "user": "user", "mcs": "mcs"}


class _Meaningless(ValueError):
    """A value that this option cannot have."""


def _text(field: str) -> Callable[[str | None], Fields]:
    def convert(value: str | None) -> Fields:
        if not value:
            raise _Meaningless("a value is needed")
        return {field: value}

    return convert


def _words(field: str) -> Callable[[str | None], Fields]:
    """A list whose members are separated by commas; those within brackets belong to a host list ("n[1,3]")."""

    def convert(value: str | None) -> Fields:
        words = [word for word in re.split(r",(?![^\[]*\])", value or "") if word]
        if not words:
            raise _Meaningless("a value is needed")
        return {field: words}

    return convert


def _integer(value: str | None) -> int:
    if not re.fullmatch(r"-?\d{1,10}", value or ""):
        raise _Meaningless("it is a whole number")
    return int(value or 0)


def _count(field: str) -> Callable[[str | None], Fields]:
    return lambda value: {field: _integer(value)}


def _switch(field: str, on: bool = True) -> Callable[[str | None], Fields]:
    def convert(value: str | None) -> Fields:
        if value:
            raise _Meaningless("it takes no value")
        return {field: on}

    return convert


def _flag(flag: str) -> Callable[[str | None], Fields]:
    def convert(value: str | None) -> Fields:
        if value:
            raise _Meaningless("it takes no value")
        return {"flags": [flag]}

    return convert


def number(value: int) -> Fields:
    """Slurm's number-or-nothing."""
    return {"set": True, "infinite": False, "number": value}


def _mib(value: str | None) -> int:
    return -(-parse_memory(value or "") // 1024**2)


def _gpus(field: str) -> Callable[[str | None], Fields]:
    def convert(value: str | None) -> Fields:
        match = _GPUS.fullmatch(value or "")
        if match is None:
            raise _Meaningless("write [TYPE:]COUNT")
        return {field: f"gres/gpu:{value}"}

    return convert


def _gpus_per_task(value: str | None) -> Fields:
    match = _GPUS.fullmatch(value or "")
    if match is None:
        raise _Meaningless("write [TYPE:]COUNT")
    kind = f"gres/gpu:{match['type']}" if match["type"] else "gres/gpu"
    return {"tres_per_task": f"{kind}={match['count']}", "tres_bind": f"gres/gpu:per_task:{match['count']}"}


def _one_of(field: str, words: Mapping[str, Any]) -> Callable[[str | None], Fields]:
    def convert(value: str | None) -> Fields:
        if (value or "").lower() not in words:
            raise _Meaningless(f"it is one of {', '.join(filter(None, words))}")
        return {field: [words[(value or "").lower()]]}

    return convert


def _mail(value: str | None) -> Fields:
    words = (value or "").upper().split(",")
    unknown = [word for word in words if word not in _MAIL]
    if unknown:
        raise _Meaningless(f"'{unknown[0]}' is none of {', '.join(_MAIL)}")
    return {"mail_type": list(dict.fromkeys(flag for word in words for flag in _MAIL[word]))}


def _signal(value: str | None) -> Fields:
    match = SIGNAL.fullmatch(value or "")
    if match is None:
        raise _Meaningless("write [B:]SIGNAL[@SECONDS]")
    seconds = number(int(match["seconds"] or SIGNAL_SECONDS))
    fields: Fields = {"kill_warning_signal": match["signal"], "kill_warning_delay": seconds}
    return fields | ({"kill_warning_flags": ["BATCH_JOB"]} if match["batch"] else {})


def _switches(value: str | None) -> Fields:
    count, _, wait = (value or "").partition("@")
    fields: Fields = {"required_switches": number(_integer(count))}
    return fields | ({"wait_for_switch": parse_walltime(wait)} if wait else {})


def _gres(value: str | None) -> Fields:
    words = [word for word in (value or "").split(",") if word]
    if not words or any("/" in word or "=" in word for word in words):
        raise _Meaningless("write NAME[:TYPE][:COUNT],...")
    return {"tres_per_node": ",".join(f"gres/{word}" for word in words)}


def _limit(value: str | None) -> Fields:
    if (value or "").upper() in ("UNLIMITED", "INFINITE"):
        return {"time_limit": {"set": True, "infinite": True, "number": 0}}
    return {"time_limit": number(-(-parse_walltime(value or "") // 60))}


def _begin(value: str | None) -> Fields:
    match = re.fullmatch(r"uts(\d{1,11})", value or "")
    if match is None:
        raise _Meaningless(
            "it is read in the time zone of the host of sbatch; write now+90minutes, or uts and seconds since 1970"
        )
    return {"begin_time": number(int(match[1]))}


def _nodes(value: str | None) -> Fields:
    if not re.fullmatch(r"\d{1,7}(-\d{1,7})?", value or ""):
        raise _Meaningless("write MIN or MIN-MAX")
    return {"nodes": value}


TABLE: Mapping[str, Callable[[str | None], Fields]] = {
    "begin": _begin,
    "comment": _text("comment"),
    "constraint": _text("constraints"),
    "contiguous": _switch("contiguous"),
    "cpus-per-gpu": lambda value: {"cpus_per_tres": f"gres/gpu:{_integer(value)}"},
    "cpus-per-task": _count("cpus_per_task"),
    "delay-boot": lambda value: {"delay_boot": parse_walltime(value or "")},
    "error": _text("standard_error"),
    "exclude": _words("excluded_nodes"),
    "exclusive": _one_of("shared", _SHARED),
    "export": lambda value: {},  # it is in the job's environment
    "extra": _text("extra"),
    "gpus": _gpus("tres_per_job"),
    "gpus-per-node": _gpus("tres_per_node"),
    "gpus-per-task": _gpus_per_task,
    "gpus-per-socket": _gpus("tres_per_socket"),
    "gres": _gres,
    "gres-flags": _one_of("flags", {"enforce-binding": "GRES_BINDING_ENFORCED", "disable-binding": "GRES_BINDING_DISABLED"}),
    "input": _text("standard_input"),
    "kill-on-invalid-dep": _one_of("flags", {"yes": "KILL_INVALID_DEPENDENCY", "no": "NO_KILL_INVALID_DEPENDENCY"}),
    "licenses": _text("licenses"),
    "mail-type": _mail,
    "mail-user": _text("mail_user"),
    "mcs-label": _text("mcs_label"),
    "mem": lambda value: {"memory_per_node": number(_mib(value))},
    "mem-per-cpu": lambda value: {"memory_per_cpu": number(_mib(value))},
    "mem-per-gpu": lambda value: {"memory_per_tres": f"gres/gpu:{_mib(value)}"},
    "mincpus": _count("minimum_cpus_per_node"),
    "network": _text("network"),
    "nice": lambda value: {"nice": 100 if value is None else _integer(value)},
    "no-requeue": _switch("requeue", on=False),
    "nodelist": _words("required_nodes"),
    "nodes": _nodes,
    "ntasks": _count("tasks"),
    "ntasks-per-core": _count("tasks_per_core"),
    "ntasks-per-node": _count("tasks_per_node"),
    "ntasks-per-socket": _count("tasks_per_socket"),
    "open-mode": _one_of("open_mode", {"append": "APPEND", "truncate": "TRUNCATE"}),
    "overcommit": _switch("overcommit"),
    "oversubscribe": _one_of("shared", {"": "oversubscribe"}),
    "prefer": _text("prefer"),
    "requeue": _switch("requeue"),
    "reservation": _text("reservation"),
    "signal": _signal,
    "sockets-per-node": _count("sockets_per_node"),
    "spread-job": _flag("SPREAD_JOB"),
    "switches": _switches,
    "threads-per-core": _count("threads_per_core"),
    "time": _limit,
    "time-min": lambda value: {"time_minimum": number(-(-parse_walltime(value or "") // 60))},
    "tmp": lambda value: {"temporary_disk_per_node": _mib(value)},
    "use-min-nodes": _flag("PREFER_MINIMUM_NODE_COUNT"),
    "wckey": _text("wckey"),
}  # fmt: skip


def option_fields(options: Mapping[str, str | None]) -> Fields:
    """The fields of these options; call it only where `refused_option` names none."""
    fields: Fields = {}
    for name, value in options.items():
        for field, content in TABLE[name](value).items():
            # several options add to the job's flags
            fields[field] = [*fields.get(field, ()), *content] if field == "flags" else content
    return fields


def refused_option(options: Mapping[str, str | None], speaker: str) -> str:
    """Why slurmrestd cannot take these options; empty where it can. `speaker` is what the message calls it."""
    for name, value in options.items():
        convert = TABLE.get(name)
        if convert is None:
            return f"sbatch option --{name} has no field in {speaker}"
        try:
            convert(value)
        except (_Meaningless, QuantityError) as error:
            shown = f"--{name}" + (f"={value}" if value is not None else "")
            return f"sbatch option {shown} cannot be passed on by {speaker}: {error}"
    return ""
