"""Jobs and avatars as rows of the store."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
"""Values of ``status``."""
AS_JSON = frozenset({"options", "stats", "face_box"})
"""Columns that hold JSON."""


def new_id(kind: str) -> str:
    """``video_…`` or ``avatar_…``, with 128 random bits: nobody guesses another's."""
    return f"{kind}_{secrets.token_hex(16)}"


@dataclass(frozen=True)
class _Record:
    """A row. Columns are called as the fields."""

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """From a row."""
        values = {one.name: row[one.name] for one in fields(cls)}
        return cls(**{name: json.loads(v) if name in AS_JSON and v else v for name, v in values.items()})

    def row(self) -> dict[str, Any]:
        """As columns and values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: json.dumps(value) if name in AS_JSON else value for name, value in values.items()}


@dataclass(frozen=True)
class Job(_Record):
    """One video that was asked for."""

    id: str
    """Public name."""
    owner: str
    """Name of the key that it belongs to; empty without keys."""
    model: str
    """Name of the model."""
    created_at: int
    """Seconds since 1970, like all times here."""
    prompt: str | None = None
    """Only given back."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options by the names of :class:`emo_rt.Request`."""
    sample_rate: int = 0
    """Of the decoded sound, in Hz."""
    avatar: str | None = None
    """Avatar that speaks, in place of a picture of its own."""
    size: str | None = None
    """``WIDTHxHEIGHT`` of the video, as far as it is known."""
    seconds: str = "0"
    """Length of the video."""
    is_sync: bool = False
    """Whether the caller waits for it: then nobody wants it after a restart."""
    status: str = QUEUED
    """One of four words."""
    attempts: int = 0
    """How often it was begun."""
    completed_at: int | None = None
    """When it ended."""
    expires_at: int | None = None
    """When it is deleted."""
    bytes: int = 0
    """Room that it takes on disk."""
    error_code: str | None = None
    """Why it failed, in one word."""
    error_message: str | None = None
    """Why it failed."""
    stats: Mapping[str, Any] = field(default_factory=dict)
    """Times and memory."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (COMPLETED, FAILED)

    def public(self, progress: int) -> dict[str, Any]:
        """The Video object that clients read. ``progress``: percent, of a job that runs."""
        error = {"code": self.error_code, "message": self.error_message} if self.error_code else None
        shown = {COMPLETED: 100, IN_PROGRESS: progress}.get(self.status, 0)
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": self.status,
            "progress": shown,
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "expires_at": self.expires_at,
            "prompt": self.prompt,
            "size": self.size,
            "seconds": self.seconds,
            "remixed_from_video_id": None,
            "error": error,
            "avatar": self.avatar,
            "inference_time_s": self.stats.get("inference_time_s"),
            "stage_durations": self.stats.get("stage_durations"),
            "peak_memory_mb": self.stats.get("peak_memory_mb"),
        }


@dataclass(frozen=True)
class AvatarRecord(_Record):
    """A portrait that was uploaded once."""

    id: str
    """Public name."""
    owner: str
    """Name of the key that it belongs to."""
    model: str
    """Name of the model that it was prepared for."""
    created_at: int
    """Seconds since 1970."""
    name: str | None = None
    """What the caller calls it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How it was prepared, by the names of :class:`emo_rt.Request`."""
    width: int = 0
    """Of the picture, in pixels."""
    height: int = 0
    """Of the picture, in pixels."""
    face_box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the face, in pixels of the picture."""
    warning: str | None = None
    """What is odd about the picture."""
    bytes: int = 0
    """Room that it takes on disk."""

    def public(self) -> dict[str, Any]:
        """As clients read it."""
        hidden = ("owner", "options", "bytes")
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in hidden}
        return {"id": self.id, "object": "avatar", **shown}
