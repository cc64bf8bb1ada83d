"""Secrets taken out of texts before they leave a host. Runs on hosts as it stands, and here once more."""

from __future__ import annotations

import base64
import re

MASK = "********"
# KEY=VALUE and KEY: VALUE of what holds passwords, in Slurm's files and anybody's
_NAMED = re.compile(
    r"""((?:\w*pass(?:word|wd|phrase)?|\w*secret\w*|\w*token|SLURM_JWT|api_?key)["']?\s*[=:]\s*)(?!/)("[^"]*"|'[^']*'|[^\s,;]+)""",
    re.IGNORECASE,
)
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?")
_BEARER = re.compile(r"(Bearer\s+|X-SLURM-USER-TOKEN:\s*)\S+", re.IGNORECASE)
_IN_URL = re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+@")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_SHORTEST = 12  # bytes of a key that are worth looking for


def without_secrets(text: str, keys: list[bytes]) -> str:
    """The text without passwords, tokens, private keys, and without a line that has one of those keys in it.

    Args:
        keys: contents of key files: looked for as they are, in base64 and in hex.
    """
    text = _PEM.sub(MASK, text)
    text = _NAMED.sub(lambda match: match[1] + MASK, text)
    text = _BEARER.sub(lambda match: match[1] + MASK, text)
    text = _IN_URL.sub(lambda match: match[1] + MASK + "@", text)
    text = _JWT.sub(MASK, text)
    for form in forms(keys):
        text = text.replace(form, MASK)
    return text


def forms(keys: list[bytes]) -> list[str]:
    """The ways in which a key could stand in a text."""
    found = []
    for key in keys:
        if len(key.strip()) >= _SHORTEST:
            found += [base64.b64encode(key).decode().rstrip("="), key.hex()]
            found += [key.strip().decode()] if key.isascii() else []
    return found
