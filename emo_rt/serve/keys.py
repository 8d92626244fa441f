"""API keys: hashes in a file, never the keys themselves."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from emo_rt.errors import ConfigError
from emo_rt.files import read_bounded, whole_file
from emo_rt.serve.settings import ServeOptions

FILE = "keys.json"
"""Name in the server's folder."""
LARGEST = 1 << 20
"""Bytes of that file."""
PREFIX = "emo-"
KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ANYBODY = ""
"""The owner of everything where there are no keys."""


class KeyRing:
    """Which keys open the server. A key has 256 random bits, so one round of SHA-256 hides it well enough."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        """``hashes``: name → SHA-256 of the key, in hex."""
        self._hashes = {name: value.encode("ascii") for name, value in hashes.items()}

    @classmethod
    def load(cls, folder: Path) -> KeyRing:
        """From the server's folder; empty where there is no file. Raises :class:`ConfigError` for a damaged one."""
        return cls(_read(folder / FILE))

    def __len__(self) -> int:
        return len(self._hashes)

    def owner(self, key: str | None) -> str | None:
        """Name of a key, or ``None``. Takes the same time for every wrong key. Without keys everybody is welcome."""
        if not self._hashes:
            return ANYBODY
        presented = hashlib.sha256((key or "").encode("utf-8", "surrogateescape")).hexdigest().encode("ascii")
        found = None
        for name, known in self._hashes.items():  # all of them: an early end would tell which
            if hmac.compare_digest(known, presented):
                found = name
        return found


def keys_for(options: ServeOptions) -> KeyRing:
    """The keys of a server. Raises :class:`ConfigError` where others can reach it and there is none."""
    keys = KeyRing.load(options.folder)
    if not options.is_loopback and not len(keys):
        raise ConfigError(
            f"host {options.host} can be reached from other machines, and there is no key: make one with "
            "`emo-rt serve --new-key NAME`, or listen on 127.0.0.1"
        )
    return keys


def add_key(folder: Path, name: str) -> str:
    """Make a key and keep its hash. Returns the key: nobody can tell it again. Raises :class:`ConfigError`."""
    if not KEY_NAME.fullmatch(name):
        raise ConfigError(f"the name of the key is {name!r}; expected 1 to 64 letters, digits, '_', '.' and '-'")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashes = _read(folder / FILE)
    if name in hashes:
        raise ConfigError(
            f"there is a key {name!r} in {folder / FILE} already; choose another name, or delete its line"
        )
    key = PREFIX + secrets.token_urlsafe(32)
    hashes[name] = hashlib.sha256(key.encode()).hexdigest()
    with whole_file(folder / FILE) as scratch:
        os.chmod(scratch, 0o600)
        scratch.write_text(json.dumps(hashes, indent=1) + "\n", encoding="ascii")
    return key


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(read_bounded(path, LARGEST).decode("ascii"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read ({exc}); repair it, or delete it to remove all keys") from exc
    if not isinstance(found, dict) or not all(re.fullmatch(r"[0-9a-f]{64}", str(value)) for value in found.values()):
        raise ConfigError(f"{path} is damaged; expected names and SHA-256 hashes in hex")
    return found
