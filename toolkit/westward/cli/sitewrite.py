"""Writing a site's description: what it replaces is kept, and no job is looked for elsewhere because of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from westward.catalogue.load import load_site
from westward.directories import private_dir, write_private
from westward.errors import InputError, StorageError, Unsafe
from westward.model.site import Site
from westward.store.ledger import Ledger, ledger_file


def is_there(target: Path) -> Unsafe:
    """What to say where a description is there, and is not to be overwritten."""
    return Unsafe(
        f"there is a site '{target.stem}' already, described in {target}; what you wrote into it would be lost",
        "add --force to overwrite it, or look first at what it would become: --dry-run",
    )


def described_in(target: Path) -> Site | InputError | None:
    """What a new description would replace: nothing, a description, or one that cannot be read.

    Raises:
        Unsafe: a description of another site.
    """
    if not target.exists():
        return None
    try:
        before = load_site(target)
    except InputError as error:
        return error
    if before.name != target.stem:
        raise Unsafe(f"{target} describes the site '{before.name}'", f"rename that file to {before.name}.yaml")
    return before


def refuse_to_move_jobs(site: Site, before: Site | InputError | None, target: Path, force: bool) -> None:
    """Jobs are known by the name of their site: they must not be looked for, nor sent once more, at another cluster.

    Raises:
        Unsafe: jobs are on their way to, or at, a site of that name, and its cluster was another one, or is not known.
    """
    if isinstance(before, Site) and before.cluster == site.cluster:
        return
    count = _open_jobs(site.name)
    if not count or (before is None and force):
        return
    jobs = f"{count} job{'s' if count > 1 else ''} of '{site.name}' that {'have' if count > 1 else 'has'} not ended"
    if isinstance(before, Site):
        raise Unsafe(
            f"{jobs} went to the cluster '{before.cluster}', and would be looked for at '{site.cluster}'",
            "choose another name, or wait for their end: westward jobs",
        )
    gone = "gone" if before is None else "not to be read"
    step = "--force" if before is None else f"move {target} away and add --force"
    raise Unsafe(
        f"{jobs} went to a cluster whose description is {gone}: whether it was '{site.cluster}' is not known",
        f"choose another name; or, if it was: {step}",
    )


def _open_jobs(site: str) -> int:
    """How many jobs the ledger has on their way to a site, or there; none where there is no ledger yet."""
    if not os.environ.get("WESTWARD_LEDGER") and not ledger_file().exists():
        return 0
    ledger = Ledger()
    try:
        return len(ledger.unsettled().get(site, ())) + len(ledger.watched().get(site, ()))
    finally:
        ledger.close()


def write(target: Path, text: str, overwrite: bool) -> Path | None:
    """Write a description; where it replaces one, that one is kept beside it, in the file that is returned.

    Raises:
        Unsafe: somebody has just written it, and it is not to be overwritten.
    """
    private_dir(target.parent)
    if not overwrite:
        try:
            write_private(target, text, anew=True)
        except FileExistsError as error:
            raise is_there(target) from error
        return None
    backup = target.with_name(f"{target.name}.bak") if target.exists() else None
    if backup is not None:
        try:
            shutil.copy2(target, backup)
        except OSError as error:
            raise StorageError(f"cannot keep '{target}' as '{backup}': {error.strerror}") from error
    write_private(target, text)
    return backup
