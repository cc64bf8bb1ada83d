"""An inventory directory: written whole or not at all, to be read by people; and read as Ansible reads it."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from westward.errors import InputError, StorageError, Unsafe
from westward.provision.reading import SECRETS
from westward.provision.variables import Inventory

HOSTS, CLUSTER, ACCOUNTS = "hosts.yml", "group_vars/all/slurm.yml", "group_vars/all/accounts.yml"
_WIDTH = 150
_TEMPLATE = re.compile(r"\{[{%#]")
# what stands above a variable
_COMMENTS = {
    "slurm_rest": "slurmrestd and MPI are not part of what was read: true makes the roles install them",
    "slurm_nodegroups": "nodes that are alike; each is a group of hosts.yml",
    "slurm_gres": "lines of gres.conf that are no accelerators of a node group",
    "slurm_config": "slurm.conf; 'omit' keeps out what the roles would set and this cluster does not",
    "slurm_cgroup_config": "cgroup.conf, in the same way",
    "slurm_dbd_config": "slurmdbd.conf, in the same way; passwords come from a vault",
}


def texts_of(
    inventory: Inventory, accounts: Mapping[str, Any] | None, header: Iterable[str], user: str | None = None
) -> dict[str, str]:
    """The text of each file, by its path in the directory.

    Raises:
        InputError: somebody's text would be a template to Ansible, and run here.
    """
    _refuse_templates({"hosts": inventory.members(), **inventory.variables, "slurm_accounts": accounts})
    said = "".join(f"# {line}\n" for line in header)
    files = {
        HOSTS: said + _dump(_hosts(inventory, user), flow=False),
        CLUSTER: said + "---\n" + "\n".join(_commented(name, value) for name, value in inventory.variables.items()),
    }
    if accounts is not None:
        files[ACCOUNTS] = said + "---\n" + _pair("slurm_accounts", accounts)
    return files


def refuse_existing(out: Path, force: bool) -> None:
    """
    Raises:
        Unsafe: it is there, and is not to be changed.
    """
    if out.exists() and not force:
        raise Unsafe(
            f"'{out}' is there already; what you wrote into it would be lost",
            "name another directory with --out, or add --force",
        )


def write(out: Path, files: Mapping[str, str], force: bool) -> None:
    """Write a new directory, whole or not at all; with `force`, these files of one that is there, and no others.

    Raises:
        Unsafe: it is there, and is not to be changed.
        StorageError: it cannot be written.
    """
    refuse_existing(out, force)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for name, text in files.items():
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if not out.exists():
            draft.rename(out)
            return
        for name in files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / name, out / name)
    except OSError as error:
        raise StorageError(f"cannot write '{out}': {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read(folder: Path) -> Inventory:
    """An inventory directory of this form: hosts and groups, and all variables of group_vars/all.

    Raises:
        InputError: a file is not there, or of another form.
    """
    tree = _Tree(folder / HOSTS)
    variables: dict[str, Any] = {}
    for file in sorted((folder / "group_vars" / "all").glob("*.yml")):
        if not file.read_text().startswith("$ANSIBLE_VAULT"):
            variables |= _load(file)
    groups = {name: tree.hosts(name) for name in ("slurm_controller", "slurm_dbd", "slurm_login")}
    node_groups = {name: tree.hosts("slurm_compute", "children", name) for name in tree.at("slurm_compute", "children")}
    return Inventory(groups, node_groups, variables)


class _Tree:
    """The groups of hosts.yml; what is empty or not there is an empty mapping."""

    def __init__(self, file: Path) -> None:
        self._file, self._all = file, _load(file)

    def hosts(self, *path: str) -> dict[str, dict[str, str]]:
        """The hosts of a group, each with its variables."""
        return {host: self.at(*path, "hosts", host) for host in self.at(*path, "hosts")}

    def at(self, *path: str) -> dict[str, Any]:
        """
        Raises:
            InputError: no mapping is there.
        """
        found: Any = self._all
        for key in ("all", "children", *path):
            found = found.get(key) or {}
            if not isinstance(found, dict):
                raise InputError(f"'{self._file}': a mapping was expected under {key}")
        return dict(found)


def _refuse_templates(value: Any, place: str = "") -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_templates(str(key), place)
            _refuse_templates(inner, f"{place} {key}".strip())
    elif isinstance(value, list):
        for inner in value:
            _refuse_templates(inner, place)
    elif isinstance(value, str) and _TEMPLATE.search(value) and value not in SECRETS.values():
        raise InputError(
            f"{place}: Ansible would take {value!r} for a template", "change it at the cluster before it is imported"
        )


def _load(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"cannot read '{file}': {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"'{file}' is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"'{file}': a mapping was expected")
    return found


def _hosts(inventory: Inventory, user: str | None) -> dict[str, Any]:
    """Variables of a host stand where it is named first."""
    told: set[str] = set()

    def members(hosts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        named = {host: dict(variables) if variables and host not in told else None for host, variables in hosts.items()}
        told.update(named)
        return {"hosts": named}

    children: dict[str, Any] = {name: members(hosts) for name, hosts in inventory.groups.items()}
    children["slurm_compute"] = {"children": {name: members(hosts) for name, hosts in inventory.node_groups.items()}}
    found: dict[str, Any] = {"children": children}
    return {"all": found | ({"vars": {"ansible_user": user}} if user else {})}


def _commented(name: str, value: Any) -> str:
    comment = f"# {_COMMENTS[name]}\n" if name in _COMMENTS else ""
    return comment + _pair(name, value)


def _pair(name: str, value: Any) -> str:
    """A key a line; what stands in a list is as short as it goes."""
    if isinstance(value, Mapping) and value:
        return f"{name}:\n" + textwrap.indent("".join(_pair(key, inner) for key, inner in value.items()), "  ")
    return _dump({name: value}, flow=None if isinstance(value, list) else False)


def _dump(value: Any, flow: bool | None) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=_WIDTH, default_flow_style=flow, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Lists as the roles' examples have them, nothing where nothing is said, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))
