"""The graphs of a checkpoint, made of what all families share; a family's own builder adds what only it has."""

from __future__ import annotations

from collections.abc import Sequence

from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import (
    COEFFICIENTS,
    X0_HISTORY,
    GraphSpec,
    Site,
    TensorSpec,
    deep_features,
    has_temporal,
    outer_sites,
    sites,
    step_graph,
    time_channels,
)
from emo_rt.model.presets import BASE


class GraphBuilder:
    """Specs of the graphs that EMO has. A family overrides what it does in another way."""

    def __init__(self, config: ModelConfig, dtype: str, guidance: Sequence[bool]) -> None:
        """``guidance``: which step graphs to have; see :meth:`emo_rt.model.families.base.Family.graphs`."""
        self.config, self.dtype, self.guidance = config, dtype, tuple(guidance)
        self.sites = sites(config.unet)
        s = config.latent_size
        self.latents = (config.frames, config.vae.latent_channels, s, s)

    def all(self) -> list[GraphSpec]:
        """In the order in which the runtime first needs them."""
        specs = [self.vae_encoder(), self.audio_encoder(), self.reference(), self.clip(), self.timestep()]
        cached = (False,) if self.config.deep_cache is None else (False, True)
        specs += [self.step(guided, later) for later in cached for guided in self.guidance]
        return [*specs, self.vae_decoder(), *self.more_graphs()]

    # What families differ in

    def more_graphs(self) -> list[GraphSpec]:
        """Graphs that only this family has."""
        return []

    def identity(self) -> list[TensorSpec]:
        """What ``reference`` takes of a face beside picture and mask."""
        return []

    def face_tokens(self) -> list[TensorSpec]:
        """Identity tokens that ``reference`` gives to ``clip``."""
        return []

    def clip_constants(self) -> list[TensorSpec]:
        """What ``clip`` takes that stays the same during a run."""
        return []

    def step_constants(self, used: Sequence[Site]) -> list[TensorSpec]:
        """What ``step`` takes that neither a portrait's nor a clip's graph gives. ``used``: sites that it computes."""
        return []

    def site_of_portrait(self, site: Site) -> list[TensorSpec]:
        """What ``step`` needs of a portrait at a site with attention."""
        return self.pair("reference", site, (1, self.pixels(site), site.channels))

    def audio(self, site: Site) -> list[TensorSpec]:
        """Audio K/V at a site with attention."""
        return self.pair("audio", site, (self.config.frames, self.config.audio.tokens, site.channels))

    def motion(self, site: Site, guided: bool) -> list[TensorSpec]:
        """Motion features at a site whose temporal module runs."""
        shape = (self.pixels(site), self.config.motion_frames, site.channels)
        return [TensorSpec(f"motion.{site.name}", self.dtype, shape)]

    # The graphs

    def vae_encoder(self) -> GraphSpec:
        """Portrait pixels → latent."""
        pixels = TensorSpec("pixels", "float32", (1, 3, self.config.size, self.config.size))
        return GraphSpec("vae_encoder", (pixels,), (self._portrait_latent(),))

    def audio_encoder(self) -> GraphSpec:
        """Sound → hidden states."""
        encoder = self.config.audio.encoder
        waveform = TensorSpec("waveform", "float32", (1, "samples"))
        hidden = ("video_frames", encoder.states, encoder.hidden_size)
        return GraphSpec("audio_encoder", (waveform,), (TensorSpec("audio_hidden", "float32", hidden),))

    def reference(self) -> GraphSpec:
        """All that a portrait fixes."""
        size = self.config.size
        mask = TensorSpec("face_mask", "float32", (1, self.config.locator.in_channels, size, size))
        inputs = (self._portrait_latent(), mask, *self.identity())
        return GraphSpec("reference", inputs, (*self.portrait_features(), *self.face_tokens()))

    def clip(self) -> GraphSpec:
        """All that a clip fixes."""
        config, encoder = self.config, self.config.audio.encoder
        window = (config.frames, 2 * config.audio.context_frames + 1, encoder.states, encoder.hidden_size)
        heard = TensorSpec("audio_windows", "float32", window)
        inputs = (self.motion_latents(), heard, *self.clip_constants(), *self.face_tokens())
        tokens = TensorSpec("audio_tokens", self.dtype, (config.frames, config.audio.tokens, config.audio.token_dim))
        return GraphSpec("clip", inputs, (tokens, *self._clip_features(True in self.guidance)))

    def timestep(self) -> GraphSpec:
        """Timestep → time embedding."""
        return GraphSpec("timestep", (TensorSpec("timestep", "float32", (1,)),), (self.time_embedding(),))

    def step(self, guided: bool, cached: bool) -> GraphSpec:
        """One solver step."""
        history = (X0_HISTORY, *self.latents)
        state = [TensorSpec("latents", "float32", self.latents), TensorSpec("x0_history", "float32", history)]
        inputs = [*state, self.time_embedding(), TensorSpec("coefficients", "float32", (COEFFICIENTS,))]
        if guided:
            inputs.append(TensorSpec("guidance_scale", "float32", (1,)))
        deep = [] if self.config.deep_cache is None else [self._deep_features(self.config.deep_cache, guided)]
        used = self.portrait_features() + self._clip_features(guided)
        if cached:
            outer = {site.name for site in outer_sites(self.config)}
            inputs += deep
            used = [tensor for tensor in used if tensor.name == "face_feature" or tensor.name.split(".")[-1] in outer]
        inputs += [*self.step_constants(outer_sites(self.config) if cached else self.sites), *used]
        outputs = [TensorSpec(f"next_{tensor.name}", tensor.dtype, tensor.shape) for tensor in state]
        outputs.append(TensorSpec("prediction", "float32", (1 + guided, *self.latents)))
        given = (*outputs, *([] if cached else deep))
        return GraphSpec(step_graph(guided, cached), tuple(inputs), given, "step", BASE, guided, cached)

    def vae_decoder(self) -> GraphSpec:
        """Latents → pixels."""
        frames, size = self.config.decode_frames, self.config.size
        latents = TensorSpec("frame_latents", "float32", (frames, *self.latents[1:]))
        return GraphSpec("vae_decoder", (latents,), (TensorSpec("pixels_rgb", "uint8", (frames, size, size, 3)),))

    # Tensors

    def motion_latents(self) -> TensorSpec:
        """Motion frames as ``clip`` takes them."""
        return TensorSpec("motion_latents", "float32", (self.config.motion_frames, *self.latents[1:]))

    def pair(self, kind: str, site: Site, shape: tuple[int, ...]) -> list[TensorSpec]:
        """K and V, (batch, tokens, channels): heads side by side, so that attention needs no transpose."""
        return [TensorSpec(f"{kind}_{part}.{site.name}", self.dtype, shape) for part in ("key", "value")]

    def pixels(self, site: Site) -> int:
        """Places at a site's resolution."""
        return (self.config.latent_size >> site.level) ** 2

    def _portrait_latent(self) -> TensorSpec:
        return TensorSpec("portrait_latent", "float32", (1, *self.latents[1:]))

    def time_embedding(self) -> TensorSpec:
        """Of one timestep, projected for every residual block."""
        return TensorSpec("time_embedding", self.dtype, (1, sum(time_channels(self.config.unet))))

    def _deep_features(self, kept: int, guided: bool) -> TensorSpec:
        """What comes out of the blocks that cached steps leave out."""
        unet, s = self.config.unet, self.config.latent_size
        level = 1 if kept == unet.layers_per_block and len(unet.block_out_channels) > 1 else 0
        shape = ((1 + guided) * self.config.frames, unet.block_out_channels[level], s, s)
        return TensorSpec(deep_features(guided), self.dtype, shape)

    def portrait_features(self) -> list[TensorSpec]:
        """What ``step`` needs of a portrait."""
        s = self.config.latent_size
        face = TensorSpec("face_feature", self.dtype, (1, self.config.unet.block_out_channels[0], s, s))
        attending = [site for site in self.sites if site.attention]
        return [face, *(tensor for site in attending for tensor in self.site_of_portrait(site))]

    def _clip_features(self, guided: bool) -> list[TensorSpec]:
        """What ``step`` needs of a clip."""
        tensors: list[TensorSpec] = []
        for site in self.sites:
            tensors += self.audio(site) if site.attention else []
            if has_temporal(self.config, site):
                tensors += [*self.motion(site, guided), *self.speed(site)]
        return tensors

    def speed(self, site: Site) -> list[TensorSpec]:
        """Speed K/V at a site whose temporal module runs."""
        return []
