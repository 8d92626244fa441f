"""Hallo and Hallo2: identity tokens from a face embedding, audio attention by region, motion frames decoded and
encoded again, the whole sound heard at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from emo_rt.checks import check
from emo_rt.media.framing import Portrait
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import AUDIO_REGIONS, Array, GraphSpec, Site, TensorSpec
from emo_rt.model.families.base import COMMON_OPTIONS, Call, Family
from emo_rt.model.families.graphs import GraphBuilder
from emo_rt.model.identity import FaceInputs, expanded_mask, face_inputs
from emo_rt.model.options import AnimateOptions

MOTION_SCALE = (1.0, 1.0, 1.0)
"""Weight of the sound on pose, face and lips where the caller says nothing."""


class Hallo(Family):
    """Hallo and Hallo2."""

    name = "hallo"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        tokens, attention = config.reference.face_tokens, config.audio.attention
        check(tokens > 0, "reference.face_tokens", tokens, "1 or more in the family hallo")
        check(attention == "hierarchical", "audio.attention", attention, "'hierarchical' in the family hallo")
        check(config.speed is None, "speed", config.speed, "None in the family hallo")

    @property
    def heeds(self) -> frozenset[str]:
        return COMMON_OPTIONS | {"motion_scale"}

    def constants(self, options: AnimateOptions) -> Mapping[str, Any]:
        return {"motion_scale": MOTION_SCALE if options.motion_scale is None else options.motion_scale}

    @property
    def roles(self) -> frozenset[str]:
        needed = {"vae_encoder", "audio_encoder", "reference", "clip", "timestep", "vae_decoder"}
        return frozenset(needed | {call.graph for call in self.carry})

    def face_mask(self, portrait: Portrait, head_room: float | None = None) -> Array:
        """1 in the face's box, grown to 1.2 of its sides. Takes no ``head_room``."""
        return expanded_mask(portrait, self.config)

    def portrait_inputs(
        self, portrait: Portrait, given: FaceInputs, original: Array, head_room: float | None = None
    ) -> dict[str, Array]:
        return face_inputs(portrait, self.config, given, original)

    def with_landmarks(self, given: FaceInputs | None, found: Array | None) -> FaceInputs | None:
        return given if found is None else replace(given or FaceInputs(), landmarks=found)

    @property
    def anonymous(self) -> FaceInputs:
        return FaceInputs(no_embedding=True)

    @property
    def first_motion(self) -> Literal["zeros", "portrait"]:
        return self.config.first_motion

    @property
    def carry(self) -> tuple[Call, ...]:
        is_again = self.config.motion_source == "reencoded"
        return (Call("motion_encoder", self.motion_frames),) if is_again else ()

    def _builder(self, dtype: str, guidance: Sequence[bool]) -> GraphBuilder:
        return HalloGraphs(self.config, dtype, guidance)


class HalloGraphs(GraphBuilder):
    """With face tokens, audio K/V by region, and features that depend on the guidance half: the face tokens of both
    halves go through the ReferenceNet, and the Backbone deals both out in turn to the frames of the conditional half
    (see :mod:`emo_rt.export.networks.backbone`). So a portrait's reference K/V and a clip's motion features exist once
    per half. ``step_unguided`` beside ``step`` takes the conditional half of them."""

    def more_graphs(self) -> list[GraphSpec]:
        config = self.config
        if config.motion_source != "reencoded":
            return []
        last = TensorSpec("last_latents", "float32", (config.motion_frames, *self.latents[1:]))
        pixels = TensorSpec("motion_pixels_rgb", "uint8", (config.motion_frames, config.size, config.size, 3))
        return [GraphSpec("motion_encoder", (last,), (self.motion_latents(), pixels))]

    def identity(self) -> list[TensorSpec]:
        return [TensorSpec("face_embedding", "float32", (1, self.config.reference.face_embedding_dim))]

    def face_tokens(self) -> list[TensorSpec]:
        reference = self.config.reference
        return [TensorSpec("face_tokens", self.dtype, (1, reference.face_tokens, reference.face_token_dim))]

    def step_constants(self, used: Sequence[Site]) -> list[TensorSpec]:
        regions = len(AUDIO_REGIONS)
        levels = {site.level: self.pixels(site) for site in used if site.attention}
        masks = [TensorSpec(f"audio_mask.{level}", "float32", (regions, n)) for level, n in levels.items()]
        return [TensorSpec("motion_scale", "float32", (regions,)), *masks]

    def site_of_portrait(self, site: Site) -> list[TensorSpec]:
        halves = 2 if True in self.guidance else 1
        reference = (halves, self.pixels(site), site.channels)
        face = (1, self.config.reference.face_tokens, site.channels)
        return [*self.pair("reference", site, reference), *self.pair("face", site, face)]

    def audio(self, site: Site) -> list[TensorSpec]:
        shape = (self.config.frames, self.config.audio.tokens, site.audio_channels)
        return [tensor for region in AUDIO_REGIONS for tensor in self.pair(f"audio_{region}", site, shape)]

    def motion(self, site: Site, guided: bool) -> list[TensorSpec]:
        (plain,) = super().motion(site, guided)
        unconditional = TensorSpec(f"motion_unconditional.{site.name}", plain.dtype, plain.shape)
        return [plain, unconditional] if guided else [plain]
