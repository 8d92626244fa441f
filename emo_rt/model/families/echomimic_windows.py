"""The windows of EchoMimic's streams: which frames of them are finished, a clip's own, and ahead of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from emo_rt.checks import check
from emo_rt.model.config import ModelConfig

STREAM = "echomimic-stream"
"""Family of the configurations of this file."""


@dataclass(frozen=True)
class StreamConfig(ModelConfig):
    """An EchoMimic checkpoint's configuration with clips that are parts of windows: ``frames`` are a clip's own,
    ``motion_frames`` the finished ones in front of them."""

    ahead: int = 0
    """Frames of a window behind the clip's own."""

    def _check_continuation(self) -> None:
        check(1 <= self.motion_frames < self.frames, "motion_frames", self.motion_frames, f"1 … {self.frames - 1}")
        check(self.ahead >= 0, "ahead", self.ahead, "0 or more")

    @property
    def window(self) -> int:
        """Frames of a window."""
        return self.motion_frames + self.frames + self.ahead


def stream_config(config: ModelConfig) -> StreamConfig:
    """Of a checkpoint: windows look back and ahead by what the published ones have in common, but by no more than a
    quarter of a window, so that half of it or more is new."""
    assert config.windows is not None
    side = max(min(config.windows.overlap, config.frames // 4), 1)
    values: dict[str, Any] = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    clip = config.frames - 2 * side
    audio = dataclasses.replace(config.audio, context_frames=0)
    own: dict[str, Any] = {"family": STREAM, "frames": clip, "motion_frames": side, "audio": audio}
    return StreamConfig(**{**values, **own, "decode_frames": math.gcd(config.decode_frames, clip)}, ahead=side)
