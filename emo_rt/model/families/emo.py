"""EMO itself (the paper, and our own checkpoints): a face box in which the head moves, speed layers, plain motion
latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from emo_rt.checks import check, within
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait, box_mask
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, Site, TensorSpec
from emo_rt.model.families.base import COMMON_OPTIONS, Family
from emo_rt.model.families.graphs import GraphBuilder
from emo_rt.model.identity import FaceInputs, refuse_all
from emo_rt.model.options import AnimateOptions

SPEED = 0.5
"""Head speed where the caller says nothing: calm speech (paper, section 4.4)."""


class Emo(Family):
    """EMO."""

    name = "emo"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        tokens, attention = config.reference.face_tokens, config.audio.attention
        check(tokens == 0, "reference.face_tokens", tokens, "0 in the family emo")
        check(attention == "single", "audio.attention", attention, "'single' in the family emo")

    @property
    def heeds(self) -> frozenset[str]:
        return COMMON_OPTIONS | {"head_room"} | ({"speed"} if self.config.speed else set())

    def constants(self, options: AnimateOptions) -> Mapping[str, Any]:
        return {"speed": SPEED if options.speed is None else options.speed} if self.config.speed else {}

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({"vae_encoder", "audio_encoder", "reference", "clip", "timestep", "vae_decoder"})

    def face_mask(self, portrait: Portrait, head_room: float | None = None) -> Array:
        """1 inside the face box and its margin (section 3.2: the union of a video's boxes, larger than one frame's).

        ``head_room``: the margin as a share of the box; ``None`` = the model's.
        """
        size, margin = self.config.size, self.config.locator.margin if head_room is None else head_room
        check(within(margin, 0, math.inf), "head_room", margin, "0 or more")
        square = Box(0, 0, size, size)
        room = portrait.face.widened(margin).clipped(size, size) if margin < size else square
        return np.repeat(box_mask(room, size)[None, None], self.config.locator.in_channels, axis=1)

    def portrait_inputs(
        self, portrait: Portrait, given: FaceInputs, original: Array, head_room: float | None = None
    ) -> dict[str, Array]:
        refuse_all(given, self.config.name)
        return {"face_mask": self.face_mask(portrait, head_room)}

    @property
    def first_motion(self) -> Literal["zeros", "portrait"]:
        return self.config.first_motion

    def _builder(self, dtype: str, guidance: Sequence[bool]) -> GraphBuilder:
        return EmoGraphs(self.config, dtype, guidance)


class EmoGraphs(GraphBuilder):
    """With speed layers, where the configuration has them."""

    def clip_constants(self) -> list[TensorSpec]:
        return [TensorSpec("speed", "float32", (self.config.frames,))] if self.config.speed else []

    def speed(self, site: Site) -> list[TensorSpec]:
        shape = (1, self.config.frames, site.channels)
        return self.pair("speed", site, shape) if self.config.speed else []
