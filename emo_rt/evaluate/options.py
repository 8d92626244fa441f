"""What `emo-rt evaluate` and `emo-rt tune` can be told: each option once, for Python, the command line and JSON."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from emo_rt.errors import ConfigError
from emo_rt.schema.compound import Coded, Files
from emo_rt.schema.kinds import FILE, Range
from emo_rt.schema.option import Outside, check_options

Name: TypeAlias = str | os.PathLike[str]
Expect = Literal["equal", "quality"]

NETWORKS = ("arcface", "inception", "i3d", "syncnet", "deep3d")
"""Options of :class:`Against` that name a network."""
LEAST_PSNR = 60.0
"""dB that the worst frame of an equal video must have. Rounding gave 86 dB (ONNX Runtime against OpenVINO in fp32, the
demo model), 1 % noise on the weights of one graph 44 … 57, bfloat16 47, twelve steps instead of eight 41."""
LEAST_BUDGET_S = 10.0
"""Shortest time in which anything can be tuned."""
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Against:
    """What videos are held against."""

    portrait: Annotated[Name | None, FILE] = None
    """Picture of the person; or a folder with one picture per video, of the same name. ``None`` = none."""
    voice: Annotated[Name | None, FILE, Outside(placeholder="SOUND")] = None
    """Sound to hold the lips against. ``None`` = the video's own."""
    truth: Annotated[Name | None, FILE, Outside(placeholder="FOLDER")] = None
    """Folder of true videos, for FID, FVD and E-FID. ``None`` = none."""
    systems: Annotated[Sequence[Name], Files(), Outside("against", "FOLDER")] = ()
    """Folders of other systems' videos: a row each, the same measures."""
    clip_frames: Annotated[int | None, Range(1, math.inf)] = None
    """Frames in a clip of the model, for jumps at clip borders. ``None`` = none."""
    arcface: Annotated[Name | None, FILE, Outside(placeholder="FILE.onnx")] = None
    """Network of face recognition for F-SIM, like InsightFace's w600k_r50.onnx. ``None`` = none."""
    inception: Annotated[Name | None, FILE, Outside(placeholder="FILE.onnx")] = None
    """Network for FID, by python -m emo_rt.export.metrics.convert inception. ``None`` = none."""
    i3d: Annotated[Name | None, FILE, Outside(placeholder="FILE.onnx")] = None
    """Network for FVD, by python -m emo_rt.export.metrics.convert i3d. ``None`` = none."""
    syncnet: Annotated[Name | None, FILE, Outside(placeholder="FILE.onnx")] = None
    """Network for LSE-C and LSE-D, by python -m emo_rt.export.metrics.convert syncnet. ``None`` = none."""
    deep3d: Annotated[Name | None, FILE, Outside(placeholder="FILE.onnx")] = None
    """Network for E-FID, by python -m emo_rt.export.metrics.convert deep3d. ``None`` = none."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class GateOptions:
    """What the regression gate asks for."""

    expect: Expect | None = None
    """What must hold. Equal: the same frames to rounding. Quality: as good, though the frames differ.
    ``None`` = quality for two presets, else equal."""
    least_psnr: Annotated[float, Range(0, 100, unit="dB"), Outside(placeholder="DB")] = LEAST_PSNR
    """What every frame needs where they shall be equal."""

    def __post_init__(self) -> None:
        check_options(self)


def duration(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``1.5h`` in seconds. Raises :class:`ConfigError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is no time; expected a number of seconds, or like 90s, 10m, 1h")
    return float(found[1]) * UNITS[found[2] or "s"]


def written_duration(seconds: float) -> str:
    """``10m`` for 600, in the largest unit that needs no fraction."""
    unit = next(name for name in reversed(UNITS) if not seconds % UNITS[name] or name == "s")
    return f"{seconds / UNITS[unit]:g}{unit}"


DURATION = Coded(
    expected=f"{LEAST_BUDGET_S:g} s or more, as a number of seconds or like 90s, 10m, 1h",
    belongs=Range(LEAST_BUDGET_S, math.inf).has,
    parse=duration,
    write=written_duration,
    written={"type": "string", "pattern": r"^\d+(\.\d+)?[smh]?$"},
    placeholder="TIME",
)
"""Seconds, or a text with a unit."""


@dataclass(frozen=True)
class TuneOptions:
    """How a model is tuned."""

    portrait: Annotated[Name | None, FILE] = None
    """Picture of a person like those that the model will animate. ``None`` = none."""
    voice: Annotated[Name | None, FILE, Outside(placeholder="SOUND")] = None
    """What the person says, some seconds. ``None`` = none."""
    budget: Annotated[float, DURATION] = 600.0
    """Time for it all, in seconds or like 90s, 10m, 1h."""
    dry_run: bool = False
    """Measure and print, but keep no presets."""
    forget: bool = False
    """Delete the tuned presets of this model instead."""

    def __post_init__(self) -> None:
        check_options(self)


__all__ = ["Against", "GateOptions", "TuneOptions"]
