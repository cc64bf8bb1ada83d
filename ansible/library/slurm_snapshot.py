#!/usr/bin/python
"""An archive of a directory as it was at one moment, though a daemon may write there."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import tarfile
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slurm_snapshot
short_description: Archive a directory while a daemon writes there
description:
  - Writes a tar file, mode 600, of whoever owns the directory it is in. What was changed while it was read is read again, until nothing was.
  - Sockets and what matches no pattern are left out.
options:
  root: {description: The directory; names in the archive begin below it., type: path, required: true}
  patterns: {description: "What of it, as C(slurm/*).", type: list, elements: str, default: ["*", ".*"]}
  dest: {description: The archive., type: path, required: true}
  tries: {description: How often it is read at most., type: int, default: 30}
author: [Westward]
"""

PAUSE_S = 0.5
Listing = "list[tuple[str, tuple[int, int, int]]]"


def listing(root: str, patterns: list[str]) -> Listing:
    """Each file and directory below root, by its name there, with what changes when it is written."""
    found = {}
    for pattern in patterns:
        for top in glob.glob(os.path.join(glob.escape(root), pattern)):
            if os.path.basename(top) in (".", ".."):
                continue
            for path in _below(top):
                try:
                    seen = os.lstat(path)
                except FileNotFoundError:  # gone since
                    continue
                if not stat.S_ISSOCK(seen.st_mode):
                    found[os.path.relpath(path, root)] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return sorted(found.items())


def _below(top: str):  # type: ignore[no-untyped-def]
    yield top
    if os.path.isdir(top) and not os.path.islink(top):
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                yield os.path.join(folder, name)


def archive(root: str, patterns: list[str], dest: str) -> bool:
    """Write the archive; whether nothing was changed while it was read."""
    before = listing(root, patterns)
    descriptor = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name, _ in before:
                    tar.add(os.path.join(root, name), arcname=name, recursive=False)
        except OSError:  # a file is gone, or shorter than it was
            return False
        file.flush()
        os.fsync(file.fileno())
    return listing(root, patterns) == before


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "patterns": {"type": "list", "elements": "str", "default": ["*", ".*"]},
            "dest": {"type": "path", "required": True},
            "tries": {"type": "int", "default": 30},
        }
    )
    root, dest = module.params["root"], module.params["dest"]
    if not os.path.isdir(root):
        module.fail_json(msg=f"{root} is not there")
    for _ in range(module.params["tries"]):
        if archive(root, module.params["patterns"], dest):
            break
        time.sleep(PAUSE_S)
    else:
        os.unlink(dest)
        module.fail_json(msg=f"{root} was changed each time that it was read, {module.params['tries']} times")
    owner = os.stat(os.path.dirname(dest))
    os.chown(dest, owner.st_uid, owner.st_gid)
    with open(dest, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)
    module.exit_json(changed=True, sha256=digest)


def _digest(file) -> str:  # type: ignore[no-untyped-def]
    digest = hashlib.sha256()
    for piece in iter(lambda: file.read(1 << 20), b""):
        digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
