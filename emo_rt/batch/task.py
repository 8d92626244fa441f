"""What the driver and its workers send each other. Plain values: they go through a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """A model and what it runs on: arguments of :meth:`emo_rt.Animator.load`, by their names."""

    bundle: str = "demo"
    """Bundle folder, or ``demo``."""
    device: str = "auto"
    """Device."""
    backend: str = "auto"
    """Runtime."""
    threads: int | None = None
    """CPU threads per graph. ``None`` = the cores, shared among the workers."""
    memory_limit: float | None = None
    """GB of a GPU's memory that each worker may take. ``None`` = all of it."""
    exact: bool = False
    """Whether ``auto`` takes no backend that rounds more than fp32 does."""


@dataclass(frozen=True)
class Task:
    """One row for a worker."""

    key: str
    """Name of the video."""
    fields: Mapping[str, Any]
    """The request."""
    portrait: str
    """The same for rows whose portrait need not be prepared again."""
    output: str
    """Absolute path of the video."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its model."""

    device: str
    """Backend and device in words."""


@dataclass(frozen=True)
class Unusable:
    """A worker cannot load its model: no other will."""

    error: Exception
    """Why."""


@dataclass(frozen=True)
class Done:
    """A worker is through with a row."""

    key: str
    """The task's."""
    wall_s: float
    """Seconds that it took."""
    sha256: str = ""
    """Hash of the video."""
    frames: int = 0
    """Frames of the video."""
    seconds: float = 0.0
    """Its length."""
    mark: bool = False
    """Whether it is marked as AI-generated."""
    error_type: str = ""
    """Class of the error; empty where there is a video."""
    error: str = ""
    """Its message."""
    is_transient: bool = False
    """Whether another attempt may succeed."""
    is_storage_full: bool = False
    """Whether there is no room for the video: no row would succeed."""
    is_last: bool = False
    """Whether the worker ends: its device is lost."""
