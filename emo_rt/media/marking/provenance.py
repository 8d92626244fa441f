"""Signed metadata after C2PA: who made a file, by what, and that nothing was changed since. Extra ``provenance``.

A file of a stranger is read here: what its manifest says may be of any type and length. Nothing uses the network: a
manifest that lies elsewhere is not fetched.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import IO, Any

from emo_rt.errors import MissingDependencyError
from emo_rt.media.marking.manifest_parts import MANIFEST_UUID, manifest_bytes

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for what a trained model has made."""
FORMATS = {"mp4": "video/mp4", "mov": "video/quicktime"}
"""Muxer → media type of what is signed."""
READABLE = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("video/mp4", re.compile(re.escape(MANIFEST_UUID), re.DOTALL)),
    "avi": ("video/avi", re.compile(b"C2PA.{8}jumb", re.DOTALL)),  # four bytes alone are in any long video by chance
}
"""FFmpeg's demuxer → media type of what is read, and what a file with a manifest has in it: the box's UUID, or the
chunk's name with what begins in it. C2PA has no place for a manifest in other containers of video."""
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""Of the library's settings."""
STATES = ("valid", "trusted", "invalid")
"""Of a manifest, as the library judges it."""
LONGEST, MOST_PROBLEMS = 200, 20
"""Characters that are kept of a text in a manifest, and codes of problems."""
SEARCHED, LONGEST_SIGN = 1 << 20, 16
"""Bytes that are searched at a time, and of a sign."""
MOST_BYTES = 32 << 20
"""Of all manifests of a file: the library has them in memory twice. With a thumbnail they have some 100 kB."""


@dataclass(frozen=True)
class ProvenanceReading:
    """What a file's manifest says."""

    state: str
    """``absent``; ``unsupported`` (there is none, because the container, like WebM, has no place for one); ``valid``
    (nothing was changed; who signed is not known to be trusted), ``trusted``, ``invalid`` (changed, cut off, or
    wrongly signed), or ``unchecked`` (the extra ``provenance`` is not installed)."""
    issuer: str | None = None
    """Who has signed, by the certificate."""
    generator: str | None = None
    """What has made the file, with its version."""
    says_generated: bool = False
    """Whether it says that a model has made the file."""
    problems: tuple[str, ...] = ()
    """Codes of C2PA of what is wrong."""


def read_provenance(file: IO[bytes] | io.RawIOBase, demuxer: str) -> ProvenanceReading:
    """Look for a manifest in an open file. Never raises for what is in it. ``demuxer``: FFmpeg's name of it."""
    if demuxer not in READABLE:
        return ProvenanceReading("unsupported")
    try:
        c2pa: Any = c2pa_library()
    except MissingDependencyError:
        return ProvenanceReading("unchecked")
    media_type, sign = READABLE[demuxer]
    if (size := manifest_bytes(file, demuxer)) > MOST_BYTES:
        return ProvenanceReading("invalid", problems=(f"too large: {size:,} bytes; at most {MOST_BYTES:,} are read",))
    file.seek(0)
    try:
        with (
            c2pa.Context.from_dict(OFFLINE) as context,
            c2pa.Reader(media_type, file, context=context) as reader,
        ):
            return _reading(str(reader.get_validation_state()), json.loads(reader.json()))
    except (c2pa.C2paError, ValueError, RecursionError) as exc:
        if "ManifestNotFound" in str(exc) or not _has(file, sign):
            return ProvenanceReading("absent")
        return ProvenanceReading("invalid", problems=(_text(str(exc)) or type(exc).__name__,))


def c2pa_library() -> ModuleType:
    """``c2pa-python``. Raises :class:`MissingDependencyError`."""
    try:
        import c2pa
    except ImportError as exc:
        raise MissingDependencyError("C2PA needs c2pa-python; pip install 'emo_rt[provenance]'") from exc
    return c2pa  # type: ignore[no-any-return,unused-ignore]


def _reading(state: str, report: object) -> ProvenanceReading:
    """``report``: the library's, made of what somebody has signed: each part may be of any JSON type."""
    whole = _mapping(report)
    manifest = _mapping(_mapping(whole.get("manifests")).get(str(whole.get("active_manifest"))))
    generator = _mapping(next(iter(_list(manifest.get("claim_generator_info"))), None))
    named = " ".join(filter(None, (_text(generator.get(part)) for part in ("name", "version"))))
    actions = [
        _mapping(action)
        for assertion in map(_mapping, _list(manifest.get("assertions")))
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in _list(_mapping(assertion.get("data")).get("actions"))
    ]
    codes = (_text(_mapping(problem).get("code")) for problem in _list(whole.get("validation_status")))
    known = state.lower() if state.lower() in STATES else "invalid"
    return ProvenanceReading(
        state=known,
        issuer=_text(_mapping(manifest.get("signature_info")).get("issuer")),
        generator=named or None,
        says_generated=any(action.get("digitalSourceType") == MADE_BY_A_MODEL for action in actions),
        problems=tuple(code for code in codes if code)[:MOST_PROBLEMS],
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    """A text on one line; ``None`` for anything else."""
    return " ".join(value.split())[:LONGEST] if isinstance(value, str) else None


def _has(file: IO[bytes] | io.RawIOBase, sign: re.Pattern[bytes]) -> bool:
    """Whether a file has ``sign`` in it: where it cannot be parsed, that tells a broken signature from none."""
    file.seek(0, os.SEEK_SET)
    before = b""
    while part := file.read(SEARCHED):
        if sign.search(before + part):
            return True
        before = (before + part)[-LONGEST_SIGN + 1 :]
    return False
