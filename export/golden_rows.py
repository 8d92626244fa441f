"""What a comparison with golden vectors gives: rows, each with its bounds, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emo_rt.export.parity import PIXEL_BOUND, compare
from emo_rt.model.contract import Array


@dataclass(frozen=True)
class Bounds:
    """Largest relative errors ‖ours − golden‖ / ‖golden‖ by kind, and what frames must keep."""

    hidden: float
    """Audio hidden states."""
    tokens: float
    """Audio tokens, reference features, motion latents."""
    prediction: float
    """Predictions of both guidance halves."""
    latents: float
    """Latents in front of each step."""
    frames: float
    """Frames."""
    frames_maximum: float
    """Largest difference of a frame's value, in 0 … 1."""
    psnr: float = 0.0
    """Least peak signal-to-noise ratio of a clip's frames, in dB."""


BOUNDS = {
    "fp32": Bounds(1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1 / 255),
    # fp16 rounds to 11 bits. Guidance g weighs each half's error with up to g, and the steps add up.
    "fp16": Bounds(2e-2, 2e-2, 5e-2, 5e-2, 2e-2, 16 / 255, 40.0),
}


@dataclass(frozen=True)
class Row:
    """One stored tensor, ours against it."""

    what: str
    relative: float
    bound: float
    maximum: float
    maximum_bound: float = math.inf
    psnr: float | None = None
    psnr_bound: float = 0.0

    @property
    def passed(self) -> bool:
        """Within every bound; NaN never is."""
        near = self.relative <= self.bound and self.maximum <= self.maximum_bound
        return near and (self.psnr is None or self.psnr >= self.psnr_bound)


class Rows:
    """Collects rows."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.found: list[Row] = []

    def add(self, what: str, ours: Array, theirs: Array, bound: float) -> None:
        """One stored tensor. Another shape than ours fails every bound."""
        if ours.shape != theirs.shape:
            self.found.append(Row(f"{what} {list(ours.shape)} for {list(theirs.shape)}", math.inf, bound, math.inf))
            return
        row = compare("", what, ours, theirs, bound)
        self.found.append(Row(what, row.relative, bound, row.maximum))

    def add_frames(self, what: str, ours: Array, theirs: Array, bytes_out: bool) -> None:
        """Frames in 0 … 1. ``bytes_out``: ours went through bytes; they are held against the golden ones' bytes."""
        bounds, rounded = self.bounds, theirs
        if bytes_out:
            bounds = replace(bounds, frames=max(bounds.frames, PIXEL_BOUND))
            rounded = np.floor(theirs * 255 + 0.5) / 255
        row = compare("", what, ours, rounded, bounds.frames)
        error = float(np.mean((ours.astype(np.float64) - theirs) ** 2))
        psnr = math.inf if error == 0 else -10 * math.log10(error)
        maximum = bounds.frames_maximum * (1 + 1e-4)  # one byte apart is 1/255 and its rounding in fp32
        self.found.append(Row(what, row.relative, bounds.frames, row.maximum, maximum, psnr, bounds.psnr))


def format_rows(rows: Sequence[Row]) -> str:
    """Rows as an aligned table."""
    width = max(len(row.what) for row in rows)
    lines = [f"{'ours against the golden':<{width}} {'relative':>9} {'bound':>8} {'maximum':>9}"]
    for row in rows:
        line = f"{row.what:<{width}} {row.relative:>9.1e} {row.bound:>8.0e} {row.maximum:>9.1e}"
        if row.psnr is not None:
            line += f" ({row.maximum * 255:.4f}/255, bound {row.maximum_bound * 255:.0f}/255) PSNR {row.psnr:.1f} dB"
            line += f" (bound {row.psnr_bound:.0f} dB)" if row.psnr_bound else ""
        lines.append(line if row.passed else f"{line}  FAILED")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """One line: how many rows, the worst one, the verdict."""
    worst = max(rows, key=lambda row: row.relative / row.bound)
    failed = sum(not row.passed for row in rows)
    verdict = f"{failed} past their bounds" if failed else "all within their bounds"
    return f"{len(rows)} rows, {verdict}; nearest to its bound: {worst.what}, {worst.relative:.1e} of {worst.bound:.0e}"
