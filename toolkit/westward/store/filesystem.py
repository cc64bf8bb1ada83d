"""On what kind of file system a folder is: SQLite's locks, and its write-ahead log, hold on one host only."""

from __future__ import annotations

import re
from pathlib import Path

from westward.errors import StorageError

# what mount(8) calls file systems that other hosts may write to as well
NETWORK_FILESYSTEMS = frozenset((
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "pvfs2", "panfs", "ceph", "cifs", "smb3", "smbfs", "afs", "auristorfs", "9p",
    "glusterfs", "wekafs", "ocfs2", "gfs2", "moosefs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.beegfs",
    "fuse.juicefs", "fuse.s3fs", "fuse.rclone", "fuse.quobyte", "fuse.mfs",
))  # fmt: skip


def refuse_network_filesystem(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """SQLite is for one host.

    Raises:
        StorageError: `folder` is on a file system that other hosts may mount as well.
    """
    kind = _kind(folder, mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise StorageError(
            f"the ledger in '{folder}' would be on a network file system ({kind}), where two hosts could start a job twice",
            "keep it on a disk of this host: export WESTWARD_STATE_DIR=/var/tmp/$USER/westward\n"
            "       or share it by a database: export WESTWARD_LEDGER=postgresql://USER@HOST/DATABASE (see docs/sysadmin.md)",
        )


def _kind(folder: Path, mounts: Path) -> str:
    """The type of the file system that holds `folder`; empty where this host does not say (proc(5), mountinfo)."""
    place = folder.resolve()  # first: it makes an automounter mount what is there
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if place.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), after.split()[0]
    return kind
