"""pyslurm and libslurm in this process: tried in another process first, then loaded once; what they say becomes our errors.

libslurm ends the whole process where its configuration cannot be used (`exit`, after up to a minute of looking for a file), and crashes
where pyslurm was built for another Slurm: nothing that Python could catch. So a child process goes the same way first.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.process import Completed, RanTooLong, run
from westward.slurm.client import InDoubt, same_cluster
from westward.slurm.faults import SLURM_ERROR, Fault, next_step, numbered

TRIAL_TIMEOUT_S = 45
Result = TypeVar("Result")

SHELL_INSTEAD = "a shell door does the same without pyslurm: add '- door: shell' under 'access: doors:'"
_LOGGED = re.compile(r"\S+: (?:(?:error|fatal|warning|info|verbose|debug\d*): )+(?P<said>.*)")
# what the door reads of each record is read here too, so that a crash happens here
_TRIAL = """
import sys
def tell(*words):
    print("trial", *words)
    sys.stdout.flush()
try:
    import pyslurm
    from pyslurm import slurmctld
    import pyslurm.core.job.submission
except ImportError as error:
    tell("import", error)
    sys.exit(0)
try:
    version = slurmctld.Config.load().version
    for kind in (pyslurm.Nodes, pyslurm.Partitions, pyslurm.Jobs):
        for record in kind.load().values():
            record.to_dict() if kind is pyslurm.Nodes else (record.name, record.state)
except pyslurm.RPCError as error:
    tell("refused", error.errno, error)
else:
    tell("works", version)
"""


class Library:
    """pyslurm for one site, loaded at the first call. `cluster` is the ClusterName to find there; empty for whichever it is."""

    def __init__(self, site: str, cluster: str = "") -> None:
        self.site = site
        # the ClusterName that has still to be compared; empty once it has been, and where it is not known
        self._unproved = cluster
        self._module: Any = None

    @property
    def pyslurm(self) -> Any:
        """The package.

        Raises:
            Unreachable: it is missing, was built for another Slurm, or finds no configuration or no slurmctld.
            AccessRefused: the cluster refuses who we are.
        """
        if self._module is None:
            if "pyslurm" not in sys.modules:
                self._check()
            self._module = _load(self.site)
        return self._module

    def ask(self, question: Callable[[Any], Result]) -> Result:
        """What `question(pyslurm)` gives, which changes nothing at the cluster."""
        return self._call(question, changes=False)

    def act(self, request: Callable[[Any], Result]) -> Result:
        """What `request(pyslurm)` gives, which changes something there.

        Raises:
            InDoubt: beside what `ask` raises: it may have been carried out.
        """
        return self._call(request, changes=True)

    def _call(self, call: Callable[[Any], Result], *, changes: bool) -> Result:
        pyslurm = self.pyslurm
        if self._unproved:
            told = self._guarded(pyslurm, lambda pyslurm: pyslurm.slurmctld.Config.load().cluster_name, changes=False)
            same_cluster(self.site, "its native door", told, self._unproved)
            self._unproved = ""
        return self._guarded(pyslurm, call, changes=changes)

    def _guarded(self, pyslurm: Any, call: Callable[[Any], Result], *, changes: bool) -> Result:
        said: list[str] = []
        try:
            with _captured(said):
                return call(pyslurm)
        except pyslurm.PyslurmError as error:
            raise self._named(getattr(error, "errno", SLURM_ERROR), str(error), said, changes) from error
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError) as error:
            if changes:  # pyslurm looks at everything before it sends anything
                raise SiteRefused(f"site '{self.site}': pyslurm does not pass this on: {error}") from error
            raise Unreachable(
                f"site '{self.site}' describes something in a form that this pyslurm does not know ({type(error).__name__}: {error})",
                SHELL_INSTEAD,
            ) from error

    def _named(self, number: int, message: str, said: list[str], changes: bool) -> WestwardError:
        """A refusal or failure as one of our errors. What libslurm wrote beside it says more than its number."""
        site = f"site '{self.site}'"
        told = message if not said or message in said[-1] else f"{message}: {said[-1]}"
        fault = Fault.DATABASE if "slurmdbd" in message else numbered(number)
        if fault is Fault.ACCESS:
            return AccessRefused(
                f"{site} refuses who we are: {told}", "a token in SLURM_JWT that has expired does this: unset it"
            )
        if fault is Fault.VERSION:
            return self._unfit(f"its slurmctld speaks another protocol: {told}")
        if fault is Fault.DATABASE:
            return Unreachable(f"{site}: slurmdbd does not answer: {told}", next_step(fault, self.site))
        if fault is Fault.REFUSED or (fault is Fault.UNSPECIFIED and changes):
            return SiteRefused(f"{site} refuses: {told}")
        kind = InDoubt if changes and fault is Fault.SILENT else Unreachable
        return kind(f"{site}: its slurmctld does not answer: {message}", next_step(fault, self.site))

    def _check(self) -> None:
        """Let a child process load and use pyslurm; what went wrong with it is raised here."""
        try:
            found = importlib.util.find_spec("pyslurm") is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise self._missing()
        configuration = os.environ.get("SLURM_CONF")
        if configuration and not os.path.isfile(configuration):  # libslurm would look for it for a minute
            raise Unreachable(
                f"site '{self.site}': SLURM_CONF names '{configuration}', which is no file here",
                "set it right, or unset it",
            )
        # -P: no pyslurm.py that happens to lie in the working directory
        argv = [sys.executable, "-P", "-c", _TRIAL]
        try:
            done = run(
                argv,
                timeout_s=TRIAL_TIMEOUT_S,
                environment={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                check=False,
            )
        except RanTooLong as error:
            raise Unreachable(
                f"site '{self.site}': libslurm did not come to an end within {TRIAL_TIMEOUT_S} s", SHELL_INSTEAD
            ) from error
        self._judge(done)

    def _judge(self, done: Completed) -> None:
        """Raise what the trial found."""
        told = next((line for line in done.stdout.splitlines() if line.startswith("trial ")), "")
        _, _, outcome = told.partition(" ")
        word, _, rest = outcome.partition(" ")
        said = _said(done.stderr)
        if word == "import":
            raise self._unfit(rest)
        if word == "refused":
            number, _, message = rest.partition(" ")
            raise self._named(int(number), message, said, changes=False)
        if word == "works" and done.status == 0:
            return
        if done.status < 0:
            raise self._unfit(f"it crashes (signal {-done.status})")
        if "fatal" in done.stderr:
            raise Unreachable(
                f"site '{self.site}': libslurm finds no configuration that it can use here: {'; '.join(said[-2:])}",
                "use the native door on a login node of that cluster, or name its slurm.conf in SLURM_CONF",
            )
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with status {done.status}"]
        raise self._unfit(last[0])

    def _missing(self) -> Unreachable:
        version = slurm_version()
        here = f"this host's Slurm {version}" if version else "the Slurm of this host, a login node of that cluster"
        return Unreachable(
            f"site '{self.site}': its native door needs the package pyslurm built for exactly {here}, and there is none for {sys.executable}",
            f"{_wanted(version)}; or {SHELL_INSTEAD}",
        )

    def _unfit(self, why: str) -> Unreachable:
        version = slurm_version()
        here = f"Slurm {version} here" if version else "the Slurm here"
        return Unfit(
            f"site '{self.site}': pyslurm {_pyslurm_version()} does not work with {here}: {why}".replace("  ", " "),
            f"{_wanted(version)}; or {SHELL_INSTEAD}",
        )


class Unfit(Unreachable):
    """The pyslurm here was built for another Slurm."""

    transient = False


def slurm_version() -> str:
    """The version of the Slurm commands on this host; empty where there are none."""
    try:
        done = run(["sinfo", "--version"], timeout_s=10, check=False)
    except WestwardError:
        return ""
    match = re.search(r"\d+\.\d+\.\d+\S*", done.stdout)
    return match[0] if match else ""


# the pyslurm that is known to work with a release of Slurm, and how to come by it
_KNOWN = {
    "25.11": "build pyslurm 25.11.2 against it (pip install 'westward[native]', with its headers and libraries at hand)",
    "26.05": "build pyslurm 25.11.2 against it by the recipe in Westward's containers/pyslurm/Dockerfile",
}


def _wanted(version: str) -> str:
    """What to do for a Slurm of that version. pyslurm counts as Slurm does, without the leading zero of a month."""
    major, _, minor = version.partition(".")
    month = minor.partition(".")[0]
    if f"{major}.{month}" in _KNOWN:
        return _KNOWN[f"{major}.{month}"]
    release = f"{int(major)}.{int(month)}" if major.isdigit() and month.isdigit() else "of its release"
    return (
        f"look for a pyslurm {release} on PyPI or in pyslurm's own repository and build it against that Slurm (none is known to work "
        f"with this door but for Slurm {' and '.join(_KNOWN)})"
    )


def _pyslurm_version() -> str:
    """Of the pyslurm that would be imported, which may not be importable; empty where it does not say."""
    found = importlib.util.find_spec("pyslurm")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        try:
            told = re.search(r'__version__\s*=\s*"([\w.]+)"', (Path(folder) / "version.py").read_text())
        except OSError:
            continue
        if told is not None:
            return told[1]
    return ""


def _load(site: str) -> Any:
    """Import pyslurm, and undo what that does to the rest of this process.

    Raises:
        Unreachable: this pyslurm is not made as the one this door was written for.
    """
    # libslurm shortens lists of array tasks to 64 characters unless told otherwise, and looks once
    os.environ.setdefault("SLURM_BITSTR_LEN", "0")
    flags = sys.getdlopenflags()
    try:
        import pyslurm
        import pyslurm.core.job.submission as submission
    finally:
        # pyslurm has every library that is loaded after it shadow the symbols of others
        if sys.getdlopenflags() != flags:
            sys.setdlopenflags(flags)
    # pyslurm adds every SLURM_ variable of this process to a job's own: among them a token in SLURM_JWT
    if not isinstance(getattr(submission, "pyenviron", None), MutableMapping):
        raise Unfit(
            f"site '{site}': pyslurm {_pyslurm_version()} is not made as 25.11 is, so it cannot be kept from handing SLURM_JWT to jobs",
            SHELL_INSTEAD,
        )
    submission.pyenviron = {}
    return pyslurm


def _said(text: str) -> list[str]:
    """What libslurm logged, without the program's name."""
    found = (_LOGGED.fullmatch(line) for line in text.splitlines())
    return [match["said"] for match in found if match is not None]


@contextmanager
def _captured(said: list[str]) -> Iterator[None]:
    """Append what libslurm logs to the error output, which would else land in the middle of the user's terminal.

    The interpreter's lock is held while libslurm works, so nobody else writes there then; what is not libslurm's is passed on.
    """
    try:
        own = os.dup(2)
    except OSError:  # a daemon may have none
        yield
        return
    log = os.memfd_create("libslurm")
    try:
        os.dup2(log, 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            size = os.lseek(log, 0, os.SEEK_CUR)
            if size:
                text = os.pread(log, size, 0).decode(errors="replace")
                said += _said(text)
                foreign = [line for line in text.splitlines(keepends=True) if not _LOGGED.fullmatch(line.rstrip("\n"))]
                os.write(2, "".join(foreign).encode())
    finally:
        os.close(own)
        os.close(log)
