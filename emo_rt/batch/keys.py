"""Names of videos: what goes in decides them, so that nothing is made twice and nothing stale is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emo_rt.batch.journal import Journal
from emo_rt.batch.manifest import FILES, Row
from emo_rt.batch.remote import Remote, is_url
from emo_rt.errors import InputError
from emo_rt.files import sha256_of
from emo_rt.model.identity import FaceInputs
from emo_rt.runtime.request import PrepareOptions
from emo_rt.schema.option import options_of

UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
"""What does not belong into the name of a file."""
LONGEST = 80
"""Characters of an id in the name of a file."""
DIGITS = 16
"""Hexadecimal digits of the hash in it: 64 bits."""
ABSENT = "absent"
"""In the place of the hash of a file that cannot be read. As soon as it can, the row is another one."""
PREPARE = {"portrait", *(option.name for cls in (PrepareOptions, FaceInputs) for option in options_of(cls))}
"""Fields that matter to ``prepare``."""


class Keys:
    """Names for the rows of a manifest. Files are read once, and not again by the next run unless they changed."""

    def __init__(self, journal: Journal, bundle_sha256: str) -> None:
        self._journal = journal
        self._bundle = bundle_sha256
        self._seen: dict[str, str] = {}

    def key(self, row: Row) -> str:
        """The id, and a hash of it, of the inputs, of the model and of the options."""
        content: dict[str, Any] = {"id": row.id, "bundle": self._bundle, "fields": self._content(row.fields)}
        if row.error is not None:
            content = {"id": row.id, "row": row.number, "written": row.written}
        name = UNUSUAL.sub("_", row.id)[:LONGEST].lstrip(".")
        return f"{name}-{_hash(content)[:DIGITS]}"

    def portrait(self, row: Row) -> str:
        """The same for rows that are prepared alike."""
        fields = {name: value for name, value in self._content(row.fields).items() if name in PREPARE}
        return _hash(fields)

    def _content(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with hashes of files in the place of their names."""

        def content(value: Any) -> Any:
            return [self._hash_of(one) for one in value] if isinstance(value, list) else self._hash_of(value)

        return {name: content(value) if name in FILES else value for name, value in fields.items()}

    def _hash_of(self, path: str) -> str:
        if path not in self._seen:
            self._seen[path] = _fingerprint(path) if is_url(path) else self._looked_up(path)
        return self._seen[path]

    def _looked_up(self, path: str) -> str:
        try:
            found = os.stat(path)
            known = self._journal.inputs.get(path)
            if known is not None and known[:2] == (found.st_size, found.st_mtime_ns):
                return known[2]
            if not Path(path).is_file():  # a pipe would block
                return ABSENT
            sha256 = sha256_of(Path(path))
        except (OSError, ValueError):
            return ABSENT
        self._journal.know_input(path, found.st_size, found.st_mtime_ns, sha256)
        return sha256


def _fingerprint(url: str) -> str:
    try:
        return Remote(url).fingerprint() or ABSENT
    except InputError:  # the row says it
        return ABSENT


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
