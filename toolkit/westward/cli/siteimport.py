"""`westward site import`: a cluster that runs becomes an inventory, and what the roles would write from it is compared with what it has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from westward.catalogue.address import DoorOptions, door_at
from westward.cli import show
from westward.cli.managed import need_ansible
from westward.errors import InputError, WestwardError
from westward.model.site import ShellDoor
from westward.slurm.shell import commands_at

if TYPE_CHECKING:
    from westward.provision.importing import Imported


class Differs(WestwardError):
    """The roles would write something else than the cluster has."""

    exit_code = 1


def read(
    host: str, options: DoorOptions, *, out: Path | None, against: Path | None, sudo: bool, force: bool
) -> Imported:
    """Import the cluster of a host, or compare it with an inventory.

    Raises:
        InputError: that is no host, or what provisioning needs is not installed.
        WestwardError: whatever `import_site` and `compare_site` raise.
    """
    need_ansible()
    from westward.provision.importing import compare_site, import_site

    door = door_at(host if host == "local" or "://" in host else f"ssh://{host}", options)
    if not isinstance(door, ShellDoor):
        raise InputError(f"'{host}': files are read by ssh, or on this host", "write [USER@]HOST[:PORT], or local")
    commands = commands_at(door)
    try:
        if against is not None:
            return compare_site(commands, against, sudo=sudo)
        return import_site(commands, host, out, sudo=sudo, force=force, user=door.user)
    finally:
        commands.close()


def tell(imported: Imported) -> None:
    """What was read, what its owner should know, and every difference."""
    reading, groups = imported.reading, imported.inventory.node_groups
    nodes = f"{len(reading.configuration.nodes)} nodes in {len(groups)} node groups ({', '.join(groups)})"
    _line("", f"{reading.cluster}: Slurm {reading.version}, {nodes}")
    for name, source in reading.sources.items():
        _line("", f"  {name} from {source}")
    for note in imported.notes:
        _line("note: ", note, "yellow")
    for difference in (*imported.differences, *imported.accounting):
        _line("differs: ", str(difference), "red")
    if imported.same:
        _line(
            "", f"from {imported.folder} the roles write the same configuration, by meaning; look before you run them:"
        )
        _line("", f"  ansible-playbook -i {imported.folder.absolute()} site.yml --check --diff")


def facts(imported: Imported) -> dict[str, Any]:
    """What --json says."""
    reading = imported.reading
    return {
        "cluster": reading.cluster,
        "version": reading.version,
        "folder": str(imported.folder),
        "same": imported.same,
        "sources": reading.sources,
        "node_groups": {name: list(hosts) for name, hosts in imported.inventory.node_groups.items()},
        "differences": [asdict(difference) for difference in imported.differences],
        "accounting": imported.accounting,
        "notes": imported.notes,
    }


def differs(imported: Imported) -> Differs:
    """What a command ends with where they are not the same."""
    count = len(imported.differences) + len(imported.accounting)
    return Differs(
        f"the roles would not write from {imported.folder} what {imported.reading.cluster} has: {count} differences",
        f"change {imported.folder}/group_vars/all until it says what you want",
    )


def _line(head: str, text: str, style: str = "") -> None:
    show.out.print(Text.assemble((head, style), show.printable(text)), soft_wrap=True)
