"""The report as one HTML file that needs nothing else: videos, pictures and curves are inside."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.evaluate.assessment import picture_of
from emo_rt.evaluate.footage import Footage, Frame
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS
from emo_rt.evaluate.motion import bends
from emo_rt.evaluate.options import Name
from emo_rt.evaluate.reading import Reading
from emo_rt.evaluate.regression import Regression
from emo_rt.evaluate.report import ARROWS, Detail, Report, number
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, open_audio
from emo_rt.media.picture import load_picture
from emo_rt.media.video_file import VideoWriter, probe
from emo_rt.version import __version__

TEMPLATE = Path(__file__).parent.parent / "assets" / "evaluate" / "report.html"
"""Style, layout and what draws the curves; the data goes in the place of :data:`SLOT`."""
SLOT = '"the report"'
WAVE_POINTS = 900
"""Columns of the waveform."""
THUMBNAIL = 180
"""Height of the pictures of worst moments, in pixels."""
FACE_ROOM = 1.6
"""Side of what they show, in heights of the mesh: artefacts of a small face in a large picture are seen."""
PORTRAIT_SIDE = 420
"""Longest side of the portrait."""
PLAYED = {"h264", "vp8", "vp9", "av1"}
"""Codecs that browsers play as they are; other videos are encoded again."""
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
GROUPS = {
    "Lips": ("lip_correlation", "lip_lag", "lse_c", "lse_d", "silence_opening", "mouth_range"),
    "Motion": ("jitter", "head_speed", "head_range", "blinks", "frozen", "border_jump"),
    "Expression and identity": ("expression_range", "e_fid_blendshapes", "e_fid", "identity", "f_sim", "face_found"),
    "Picture": ("fid", "fvd", "sharpness", "background_flicker", "length_gap"),
}
"""Headings of the table, with the measures under them."""


def report_page(report: Report, portrait: Name | None = None) -> str:
    """A whole HTML document. Raises :class:`OutputError` where a video cannot be encoded for browsers."""
    return _page(
        {
            "title": "How good are these videos?",
            "portraits": _portraits(portrait, report.details),
            "settings": {key: value for key, value in report.settings.items() if value},
            "columns": [_column(row.name, row.kind, row.videos, row.seconds, row.took_s) for row in report.rows],
            "groups": _groups([row.values for row in report.rows]),
            "videos": [_video(detail) for detail in report.details],
            "networks": [asdict(network) for network in report.networks],
        }
    )


def regression_page(result: Regression, portrait: Name | None = None) -> str:
    """The gate's answer, with both videos side by side."""
    before: dict[str, Estimate | str] = dict(result.missing)
    before |= {one.metric: Estimate(one.before, one.before, one.before, 1) for one in result.changes}
    after = {one.metric: Estimate(one.after, one.after, one.after, 1) for one in result.changes}
    change = {one.metric: one.change for one in result.changes}
    columns = [_column(name, kind) for name, kind in ((result.first, "A"), (result.second, "B"), ("B − A", "change"))]
    return _page(
        {
            "title": f"Is {result.second} as good as {result.first}?",
            "portraits": _portraits(portrait, result.details[:1]),
            "settings": {"expected": result.expect},
            "columns": columns,
            "groups": _groups([before, after, change], {one.metric: one.passed for one in result.changes}),
            "verdict": {"passed": result.passed, "text": result.verdict},
            "checks": [{**asdict(one), "shown": number(one.value)} for one in result.checks],
            "videos": [_video(detail) for detail in result.details],
            "psnr": _numbers(result.psnr),
            "networks": [asdict(network) for network in result.networks],
        }
    )


def _page(data: Mapping[str, Any]) -> str:
    """``</`` would end the script that holds the data."""
    text = json.dumps({**data, "version": __version__}, ensure_ascii=False).replace("</", "<\\/")
    return TEMPLATE.read_text(encoding="utf-8").replace(SLOT, text, 1)


def _column(name: str, kind: str, videos: int = 1, seconds: float = 0.0, took_s: float = 0.0) -> dict[str, Any]:
    return {"name": name, "kind": kind, "videos": videos, "seconds": seconds, "took_s": took_s}


def _groups(rows: Sequence[Mapping[str, Any]], passed: Mapping[str, bool] | None = None) -> list[dict[str, Any]]:
    """The table: groups of measures, each with a cell per column; measures that nobody has are told with the reason."""
    groups = []
    for title, names in GROUPS.items():
        lines = [_line(name, [row.get(name) for row in rows], passed) for name in names]
        groups.append({"title": title, "lines": [line for line in lines if line]})
    return [group for group in groups if group["lines"]]


def _line(name: str, values: Sequence[Any], passed: Mapping[str, bool] | None) -> dict[str, Any] | None:
    if all(value is None for value in values):
        return None
    metric = METRICS[name]
    cells = [
        {"text": number(v.value), "value": v.value, "low": v.low, "high": v.high, "range": _range(v)}
        if isinstance(v, Estimate)
        else {"why": v}
        for v in values
    ]
    plain = {key: getattr(metric, key) for key in ("name", "title", "unit", "definition", "source")}
    return {**plain, "arrow": ARROWS[metric.better], "cells": cells, "passed": (passed or {}).get(name)}


def _range(value: Estimate) -> str:
    low, high = number(value.low), number(value.high)
    return "" if low == high else f"{low} … {high}"


def _video(detail: Detail) -> dict[str, Any]:
    reading, footage = detail.reading, detail.footage
    pictures = _thumbnails(footage, reading, {moment.frame for moment in detail.moments})
    silent = reading.silent
    return {
        "name": footage.name,
        "fps": reading.fps,
        "seconds": len(reading) / reading.fps,
        "size": list(reading.size),
        "source": _source(footage),
        "opening": _numbers(reading.opening),
        "wave": [] if footage.sound is None else _envelope(footage.sound),
        "silent": [] if silent is None else [bool(one) for one in silent],
        "angles": [_numbers(column) for column in reading.angles.T],
        "jitter": _numbers(1000 * bends(reading.rigid)),
        "moments": [
            {"time": moment.time_s, "what": moment.what, "picture": pictures[moment.frame]}
            for moment in sorted(detail.moments, key=lambda moment: moment.time_s)
        ],
    }


def _numbers(values: NDArray[Any]) -> list[float | None]:
    """JSON has no NaN."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def _envelope(sound: NDArray[np.float32]) -> list[float]:
    """The waveform's outline: the largest absolute sample of each of :data:`WAVE_POINTS` parts, its peak at 1."""
    parts = np.array_split(np.abs(sound), min(WAVE_POINTS, max(1, len(sound))))
    peaks = np.array([float(part.max()) if len(part) else 0.0 for part in parts])
    return [round(float(peak), 3) for peak in peaks / max(float(peaks.max()), 1e-9)]


def _thumbnails(footage: Footage, reading: Reading, wanted: set[int]) -> dict[int, str]:
    """The place where the face is in the video, of the wanted frames."""
    rows, columns = _face_place(reading)
    found: dict[int, str] = {}
    for index, frame in enumerate(footage.frames()):
        if index in wanted:
            found[index] = _jpeg(frame[rows, columns], THUMBNAIL)
        if len(found) == len(wanted):
            break
    return found


def _face_place(reading: Reading) -> tuple[slice, slice]:
    """Rows and columns of a square around the face in all frames; the whole picture without a face."""
    seen = reading.landmarks[reading.found][..., :2]
    if not len(seen):
        return slice(None), slice(None)
    low, high = seen.min(axis=(0, 1)), seen.max(axis=(0, 1))
    half, middle = FACE_ROOM * float(np.max(high - low)) / 2, (low + high) / 2
    end = np.array(reading.size[::-1])
    left, top = np.clip(middle - half, 0, end - 1).astype(int)
    right, bottom = np.clip(middle + half, (left + 1, top + 1), end).astype(int)
    return slice(top, bottom), slice(left, right)


def _jpeg(picture: Frame, side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((2 * side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _uri("image/jpeg", buffer.getvalue())


def _portraits(portrait: Name | None, details: Sequence[Detail]) -> list[str | None]:
    """The portrait before each video; ``None`` where the one before it has the same."""
    path = None if portrait is None else Path(portrait)
    if path is None or not path.is_dir():
        shared = None if path is None else _jpeg(load_picture(path), PORTRAIT_SIDE)
        return [shared, *[None] * (len(details) - 1)]
    own = (picture_of(path, detail.footage.name) for detail in details)
    return [None if one is None else _jpeg(load_picture(one), PORTRAIT_SIDE) for one in own]


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _source(footage: Footage) -> str:
    path = footage.path
    if path is not None and path.suffix.lower() in TYPES and PLAYED & set(probe(path).codecs):
        return _uri(TYPES[path.suffix.lower()], path.read_bytes())
    return _uri("video/mp4", _encoded(footage))


def _encoded(footage: Footage) -> bytes:
    """H.264 in MP4, with the sound."""
    audio = None if footage.sound is None or not len(footage.sound) else open_audio(footage.sound, AUDIO_SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as folder:
        target, writer = Path(folder) / "video.mp4", None
        frames = footage.frames()
        first = next(frames)
        height, width = first.shape[:2]
        writer = VideoWriter(target, width=width, height=height, fps=max(1, round(footage.fps)), audio=audio)
        with writer:
            writer.write(first[None])
            for frame in frames:
                writer.write(frame[None])
        return target.read_bytes()
