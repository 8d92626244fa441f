"""A picture of a run: which stage worked when, as JSON for Perfetto and ``chrome://tracing``.

On a GPU the spans are times between CUDA events, on the CPU those of its clock. Tracks that overlap in time are stages
that ran side by side.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from emo_rt.errors import OutputError
from emo_rt.files import path_of, whole_file


class Trace:
    """Collects the spans of one or more runs; :meth:`save` writes them. Thread-safe.

    Pass one as ``trace=`` to :meth:`emo_rt.Animator.animate` or :meth:`emo_rt.Animator.stream`.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[str, str, float, float, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def add(self, name: str, track: str, start_s: float, seconds: float, **details: Any) -> None:
        """One span. ``track``: the line that it is drawn on; ``start_s``: in the time of ``time.perf_counter``."""
        with self._lock:
            self._spans.append((name, track, start_s, seconds, details))

    def to_dict(self) -> dict[str, Any]:
        """Plain values in Chrome's trace event format; times in microseconds from the first span on."""
        with self._lock:
            spans = sorted(self._spans, key=lambda span: span[2])
        origin = spans[0][2] if spans else 0.0
        tracks = {track: number for number, track in enumerate(dict.fromkeys(span[1] for span in spans))}
        names = [
            {"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": track}}
            for track, number in tracks.items()
        ]
        events = [
            {"ph": "X", "name": name, "pid": 0, "tid": tracks[track], "args": details}
            | {"ts": round((start - origin) * 1e6, 1), "dur": round(seconds * 1e6, 1)}
            for name, track, start, seconds, details in spans
        ]
        return {"displayTimeUnit": "ms", "traceEvents": [*names, *events]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file. Raises :class:`OutputError`; nothing partial is left."""
        target = path_of("path", path)
        try:
            with whole_file(target) as scratch:
                scratch.write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")
        except OSError as exc:
            raise OutputError(f"cannot write the trace {target}: {exc}") from exc
