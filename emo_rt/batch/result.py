"""What became of a row: one line of ``results.jsonl``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emo_rt.checks import from_dict

Status = Literal["ok", "failed", "poisoned"]


@dataclass(frozen=True)
class RowResult:
    """The last word on a row."""

    id: str
    """As the manifest says."""
    row: int
    """Number in the manifest, from 1."""
    key: str
    """Name of this video: the id, and a hash of inputs, model and options."""
    status: Status
    """``ok``, ``failed`` (it has an error) or ``poisoned`` (it killed its worker three times)."""
    output: str = ""
    """File in the folder, relative to it."""
    sha256: str = ""
    """Hash of that file."""
    error_type: str = ""
    """Class of the error, one of :mod:`emo_rt.errors` or of Python."""
    error: str = ""
    """Its message."""
    attempts: int = 0
    """How often the row was started."""
    frames: int = 0
    """Frames of the video."""
    seconds: float = 0.0
    """Length of the video."""
    wall_s: float = 0.0
    """Seconds that the last attempt took, the portrait's preparation included."""
    device: str = ""
    """What ran it: ``onnxruntime on cpu``."""
    bundle: str = ""
    """:attr:`emo_rt.Bundle.sha256`."""
    options: str = ""
    """:meth:`emo_rt.Request.digest`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package → version."""
    mark: bool = False
    """Whether the video says of itself that it is AI-generated."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RowResult:
        """Read what :meth:`to_dict` gave. Raises :class:`ConfigError`."""
        single = {name: value for name, value in plain.items() if name != "versions"}
        return dataclasses.replace(from_dict(cls, single), versions=plain.get("versions", {}))


TEXTS = tuple(f.name for f in dataclasses.fields(RowResult) if f.type == "str") + ("status", "versions")
"""Columns of a table of results that are texts."""
NUMBERS = ("seconds", "wall_s")
"""Columns that are float64."""
