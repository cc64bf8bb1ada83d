#!/usr/bin/python
"""A file that holds a secret: given as base64, since keys are binary; never shown, in no diff."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import secrets
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slurm_secret
short_description: Read, make or write a key that hosts share
description:
  - With neither I(content) nor I(bytes), gives back what is in the file, as base64, or nothing where it is not there.
  - With I(bytes), makes a key of that many random bytes where there is none, and gives back what is in the file.
  - With I(content), writes it where it differs.
  - Give C(no_log) to the task, since the answer holds the secret.
options:
  path: {description: The file., type: path, required: true}
  content: {description: "The secret, as base64.", type: str}
  bytes: {description: How long a new one is., type: int}
  owner: {description: Its owner and group., type: str, default: root}
  mode: {description: "Its mode, in octal.", type: str, default: "0600"}
author: [Westward]
"""


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "no_log": True},
            "bytes": {"type": "int"},
            "owner": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0600"},
        },
        mutually_exclusive=[("content", "bytes")],
        supports_check_mode=True,
    )
    path, there = module.params["path"], _read(module.params["path"])
    wanted = there
    if module.params["content"]:
        wanted = base64.b64decode(module.params["content"])
    elif module.params["bytes"] and there is None:
        wanted = secrets.token_bytes(module.params["bytes"])
    changed = wanted is not None and (wanted != there or not _is_private(module))
    if changed and not module.check_mode:
        try:
            _write(module, wanted)
        except (OSError, KeyError) as error:
            module.fail_json(msg=f"{path}: cannot be written: {error}")
    module.exit_json(changed=changed, secret=base64.b64encode(wanted).decode() if wanted is not None else "")


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _is_private(module: AnsibleModule) -> bool:
    if not (module.params["content"] or module.params["bytes"]):
        return True
    found = os.stat(module.params["path"])
    try:
        owner = pwd.getpwnam(module.params["owner"]).pw_uid
    except KeyError:  # the package that makes the user is not there yet, in a --check
        return False
    return found.st_uid == owner and found.st_mode & 0o777 == int(module.params["mode"], 8)


def _write(module: AnsibleModule, content: bytes) -> None:
    """At once, and never readable by others, not even for a moment."""
    path, owner = module.params["path"], module.params["owner"]
    folder = os.path.dirname(path)
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chown(name, pwd.getpwnam(owner).pw_uid, grp.getgrnam(owner).gr_gid)
        os.chmod(name, int(module.params["mode"], 8))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


if __name__ == "__main__":
    main()
