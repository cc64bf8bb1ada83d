"""What each site calls things, as its description says, and whether that is so: accounts, QOS, partitions, modules and directories."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from westward.errors import WestwardError
from westward.jobs.side_by_side import side_by_side
from westward.model.site import ShellDoor, Site
from westward.model.sitemap import KINDS
from westward.process import Completed
from westward.slurm.client import SlurmClient, open_client
from westward.slurm.commands import Answer, Request
from westward.slurm.shell import commands_at

ROOT = "root"
OWN = ("account", "qos", ROOT)  # what a site's description says for every job: it has no name beside its own
SINGULAR = {"accounts": "account", "qos": "QOS", "partitions": "partition", "modules": "module", "paths": "directory"}
TIMEOUT_S = 30
_NO_SHELL = "this takes a shell door"
_DIRECTORY = 'test -d "$1" || exit 3; test -w "$1" || exit 4'
# as a job's script finds `module`; where it knows no is-avail, its list is read
_MODULE = """\
for init in /etc/profile.d/{lmod,z00_lmod,modules}.sh /usr/share/{lmod/lmod,modules,Modules}/init/bash; do
    type -t module > /dev/null || [ ! -r "$init" ] || . "$init"
done
type -t module > /dev/null || exit 5
for name in "$@"; do
    module is-avail "$name" > /dev/null 2>&1 && continue
    module -t avail "$name" 2>&1 | sed 's/ *(.*//' | grep -qxF -e "$name" && continue
    exit 3
done"""


class Found(StrEnum):
    """Whether a thing is there."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Name:
    """One row of the map: a kind of thing, and the word that a user has for it; the word of `OWN` kinds is empty."""

    kind: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a site says of one name; `why` where it is not there, or cannot be told."""

    found: Found
    why: str = ""


def names_of(sites: Collection[Site]) -> list[Name]:
    """Every name that some site's map translates, by kind; first what the descriptions say for all jobs."""
    own = [Name(kind) for kind in OWN]
    words = {kind: sorted({word for site in sites for word in getattr(site.sitemap, kind)}) for kind in KINDS}
    return [*own, *(Name(kind, word) for kind in KINDS for word in words[kind])]


def called(name: Name, site: Site) -> str | None:
    """What the site calls it; None where its description does not say."""
    if name.kind in OWN and not name.word:
        said: str | None = getattr(site, name.kind)
        return said
    return site.sitemap.said(name.kind, name.word)


def check(
    names: Sequence[Name], sites: Collection[Site], connect: Callable[[Site], SlurmClient] = open_client
) -> dict[str, dict[Name, Checked] | WestwardError]:
    """By site: what it says now of each name, or why it says nothing. A name that its map lacks is looked for as it is."""

    def ask(site: Site) -> dict[Name, Checked] | WestwardError:
        try:
            return {**_in_slurm(names, site, connect), **_in_a_shell(names, site)}
        except WestwardError as error:
            return error

    return dict(zip([site.name for site in sites], side_by_side(ask, sites), strict=True))


def _in_slurm(names: Sequence[Name], site: Site, connect: Callable[[Site], SlurmClient]) -> dict[Name, Checked]:
    with connect(site) as client:
        account, state = client.account(), client.state()
    there: Mapping[str, set[str]] = {
        "account": {each.account for each in account.associations},
        "qos": {qos for each in account.associations for qos in each.qos},
        "partition": {partition.name for partition in state.partitions},
    }
    found = {}
    for name in names:
        kind = {"accounts": "account", "qos": "qos", "partitions": "partition"}.get(name.kind, name.kind)
        word = called(name, site) or name.word
        if kind not in there or not word:
            continue
        if not there[kind] and kind != "partition":
            found[name] = Checked(Found.UNKNOWN, "the cluster names no accounts of yours")
        elif word in there[kind]:
            found[name] = Checked(Found.YES)
        else:
            known = ", ".join(sorted(there[kind])) or "none"
            found[name] = Checked(Found.NO, f"{_thing(name)} '{word}' is not yours there; yours: {known}" if kind != "partition" else f"there is no partition '{word}'; there are: {known}")  # fmt: skip
    return found


def _in_a_shell(names: Sequence[Name], site: Site) -> dict[Name, Checked]:
    wanted = [name for name in names if name.kind in (ROOT, "paths", "modules")]
    door = next((door for door in site.doors if isinstance(door, ShellDoor)), None)
    if door is None:
        return {name: Checked(Found.UNKNOWN, _NO_SHELL) for name in wanted}
    commands = commands_at(door)
    try:
        requests = [_request(name, site) for name in wanted]
        answers = commands.each(requests, at_once=4, timeout_s=TIMEOUT_S, repeat=True)
    finally:
        commands.close()
    return {name: _told(name, site, answer) for name, answer in zip(wanted, answers, strict=True)}


def _request(name: Name, site: Site) -> Request:
    word = called(name, site) or name.word
    if name.kind == "modules":
        return Request(("bash", "-l", "-c", _MODULE, "bash", *word.split()))
    return Request(("sh", "-c", _DIRECTORY, "sh", word))


def _told(name: Name, site: Site, answer: Answer) -> Checked:
    word = called(name, site) or name.word
    if not isinstance(answer, Completed):
        return Checked(Found.UNKNOWN, str(answer))
    match answer.status, name.kind:
        case 0, _:
            return Checked(Found.YES)
        case 3, "modules":
            return Checked(Found.NO, f"module '{word}' is not there")
        case 5, "modules":
            return Checked(Found.UNKNOWN, "no command 'module' is known after a login there")
        case 3, _:
            return Checked(Found.NO, f"there is no directory '{word}'")
        case 4, "paths":
            return Checked(Found.YES, f"'{word}' can be read only")
        case 4, _:
            return Checked(Found.NO, f"you may not write to '{word}', where jobs write")
        case status, _:
            return Checked(Found.UNKNOWN, f"the look at '{word}' ended with {status}")


def _thing(name: Name) -> str:
    return SINGULAR.get(name.kind, name.kind)
