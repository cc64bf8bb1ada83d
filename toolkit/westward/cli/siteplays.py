"""`westward site backup|restore|keys|upgrade|accounts`: the playbooks, run on a cluster that you manage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from westward.catalogue.gaps import tilde
from westward.cli import managed, show


def backup(
    site: managed.SiteOrInventory,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where, on this host; a directory for each time.")],
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Fetch what a cluster cannot be made anew from: the accounting database, slurmctld's state, the configuration and the keys.

    Nothing is stopped. DIR/TIME is there when it is whole; it has the keys, so nobody but you may read it.
    """
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    made = to.expanduser().absolute() / stamp
    variables = {"slurm_backup_to": str(made.parent), "slurm_backup_stamp": stamp}
    _play(site, inventory, "backup.yml", variables, as_json)
    if as_json:
        show.print_json({"backup": str(made)})
    else:
        show.out.print(f"backup: {tilde(made)}", markup=False, soft_wrap=True)


def restore(
    site: managed.SiteOrInventory,
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="What 'westward site backup' made: DIR/TIME.")],
    over: Annotated[
        bool, typer.Option("--over", help="The cluster has jobs or accounts of them: put them aside.")
    ] = False,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Bring a backup back onto a fresh controller, and make it one: jobs that waited wait again, and the accounting is there.

    Refused (exit code 5) where a file is not as it was, the backup is of another cluster, or the controller has jobs.
    """
    variables = {"slurm_restore_from": str(backup.expanduser().absolute()), "slurm_restore_over": over}
    _play(site, inventory, "restore.yml", variables, as_json)
    if as_json:
        show.print_json({"playbook": "restore.yml"})


def keys(
    site: managed.SiteOrInventory,
    jwt: Annotated[bool, typer.Option("--jwt", help="That of tokens too: every token is void then.")] = False,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """New keys for a cluster that runs; jobs run on. With auth/slurm two keys are valid meanwhile; with munge commands fail for some seconds."""
    _play(site, inventory, "keys.yml", {"slurm_keys_jwt": jwt}, as_json)
    if as_json:
        show.print_json({"playbook": "keys.yml"})


def upgrade(
    site: managed.SiteOrInventory,
    to: Annotated[Path, typer.Option("--backup-to", metavar="DIR", help="Where the backup goes that is made first.")],
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="NAME", help="The release of the distribution that has the new packages."),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", metavar="N|P%", help="Nodes at a time.")] = "25%",
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Slurm to the release that the hosts' packages offer: backup, slurmdbd, slurmctld, slurmd in batches, login nodes. Jobs run on.

    Refused (exit code 5) where the new release cannot take up what the old one wrote: it knows two releases before it, from 24.11 on three.
    """
    variables = {"slurm_backup_to": str(to.expanduser().absolute()), "slurm_upgrade_batch": batch}
    variables |= {"slurm_upgrade_release": release} if release else {}
    _play(site, inventory, "upgrade.yml", variables, as_json)
    if as_json:
        show.print_json({"playbook": "upgrade.yml"})


def accounts(
    site: managed.SiteOrInventory,
    check: Annotated[bool, typer.Option("--check", help="Say what would be changed, and change nothing.")] = False,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Bring accounts, users, QOS and limits to what slurm_accounts of the inventory says."""
    arguments = ["--tags", "slurm_accounts", *(["--check", "--diff"] if check else [])]
    _play(site, inventory, "site.yml", {}, as_json, arguments)
    if as_json:
        show.print_json({"playbook": "site.yml", "check": check})


def _play(
    site: str,
    inventory: list[Path] | None,
    name: str,
    variables: dict[str, Any],
    as_json: bool,
    arguments: Sequence[str] = (),
) -> None:
    """Run a playbook; what it prints goes to the user, on stderr where machines read stdout."""
    from westward.provision.playbooks import Playbook

    console = show.err if as_json else show.out

    def told(line: str) -> None:
        console.print(show.printable(line), markup=False, soft_wrap=True)

    Playbook(managed.managed(site, inventory).inventories, name, told).play(variables, arguments)
