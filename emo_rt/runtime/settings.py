"""What a caller may say of a run, as keywords: single options, and how to watch, stop and steer it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from emo_rt.model.options import AnimateChanges, AnimateOptions
from emo_rt.runtime.stages import Control, Noise, Progress
from emo_rt.runtime.trace import Trace
from emo_rt.schema.option import read_options


class RunSettings(AnimateChanges, total=False):
    """Keywords of :meth:`emo_rt.Animator.animate`, ``stream`` and ``open_session``: fields of
    :class:`AnimateOptions` and :class:`Control`."""

    options: AnimateOptions | None
    progress: Callable[[Progress], None] | None
    cancel: threading.Event | None
    noise: Noise | None
    trace: Trace | None


def read_settings(settings: RunSettings) -> tuple[AnimateOptions, Control]:
    """Single options go before ``options``. Raises :class:`ConfigError` for an unknown name or a value out of range."""
    rest: dict[str, Any] = {**settings}
    options = rest.pop("options", None)
    control = Control(**{field.name: rest.pop(field.name, None) for field in fields(Control)})
    return read_options(options, rest, AnimateOptions), control
