"""Key pairs for the ssh doors of a lab, in OpenSSH's own forms. Made here, so that the host needs no ssh-keygen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from westward.directories import write_private


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key as its file holds it, and the public one as `ssh-ed25519 AAAA...`."""

    private: str = field(repr=False)
    public: str


def key_file(path: Path, anew: bool) -> KeyPair:
    """The key pair whose private half that file holds (mode 600); made where it is missing or `anew`."""
    if anew or not path.is_file():
        write_private(path, _new_private())
    text = path.read_text()
    public = load_ssh_private_key(text.encode(), password=None).public_key()
    return KeyPair(text, public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def known_host(host: str, port: int, key: KeyPair) -> str:
    """The line of a known_hosts file for that address."""
    return f"[{host}]:{port} {key.public}\n"


def _new_private() -> str:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
