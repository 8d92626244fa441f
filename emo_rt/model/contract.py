"""The contract between export and runtime: which graphs exist, and every tensor that they take and give, by name.

Tensors with one name are one buffer: what a graph gives under a name, the next takes under the same name, with the
same shape and type. F = frames of a clip, N = motion frames, S = latent size, ``dtype`` = the network's float type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from emo_rt.errors import BundleError
from emo_rt.model.config import ModelConfig, UNetConfig

Array = NDArray[Any]
"""A tensor on the host."""

DTYPES = {"float32": 4, "float16": 2, "uint8": 1}
"""Element types of tensors and their sizes in bytes."""

AUDIO_REGIONS = ("full", "face", "lip")
"""Regions of the hierarchical audio attention, in the order of ``motion_scale``."""

X0_HISTORY = 2
"""Earlier x0 that a solver step may use (UniPC with its corrector needs two)."""

COEFFICIENTS = 6
"""Columns of a solver table: p, q, a, b, c, d."""

STEP_STATE = ("latents", "x0_history")
"""What a ``step`` hands to the next one: it gives ``next_<name>`` for each."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor."""

    name: str
    """Unique name; equal names are one buffer."""
    dtype: str
    """A key of :data:`DTYPES`."""
    shape: tuple[int | str, ...]
    """Static sizes; a string names a dynamic axis."""

    @property
    def nbytes(self) -> int:
        """Size in bytes. Raises :class:`BundleError` for a dynamic shape."""
        count = 1
        for size in self.shape:
            if isinstance(size, str):
                raise BundleError(f"tensor {self.name} has the dynamic axis {size!r}: its size is known only at a run")
            count *= size
        return count * DTYPES[self.dtype]


@dataclass(frozen=True)
class GraphSpec:
    """One graph: what it takes and gives."""

    name: str
    """``vae_encoder``, ``audio_encoder``, ``reference``, ``clip``, ``timestep``, ``step``, …"""
    inputs: tuple[TensorSpec, ...]
    """Tensors it takes."""
    outputs: tuple[TensorSpec, ...]
    """Tensors it gives."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        rows = {"inputs": self.inputs, "outputs": self.outputs}
        return {side: [[t.name, t.dtype, list(t.shape)] for t in tensors] for side, tensors in rows.items()}

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> GraphSpec:
        """Read what :meth:`to_dict` gave. Raises :class:`BundleError` when it does not have that form."""
        try:
            sides = [tuple(TensorSpec(n, d, tuple(s)) for n, d, s in data[side]) for side in ("inputs", "outputs")]
        except (KeyError, TypeError, ValueError) as exc:
            raise BundleError(f"the manifest's description of graph {name!r} is malformed: {exc}") from exc
        for tensor in (*sides[0], *sides[1]):
            if not _is_well_formed(tensor):
                raise BundleError(
                    f"the manifest's description of graph {name!r} is malformed: {tensor}; expected a name, one of "
                    f"{', '.join(DTYPES)}, and sizes of 1 or more or the names of dynamic axes"
                )
        return cls(name, *sides)


def _is_well_formed(tensor: TensorSpec) -> bool:
    sizes_fit = all(isinstance(size, str) or (type(size) is int and size >= 1) for size in tensor.shape)
    return isinstance(tensor.name, str) and tensor.dtype in tuple(DTYPES) and sizes_fit


@dataclass(frozen=True)
class Site:
    """One place of the UNet where a residual block ends: the attentions and the temporal module sit here."""

    name: str
    """``down_0_1``, ``mid``, ``up_3_2``, …"""
    level: int
    """Resolution, 0 = finest."""
    channels: int
    """Width of the features."""
    attention: bool
    """Whether the Backbone has spatial attention here."""
    audio_channels: int
    """Inner width of a hierarchical audio module here: the input width of the block (Hallo)."""


def sites(unet: UNetConfig) -> tuple[Site, ...]:
    """All sites in the order of execution: SD 1.5 has 21, of which 16 have attention."""
    return tuple(_sites(unet))


def _sites(unet: UNetConfig) -> Iterator[Site]:
    widths, last = unet.block_out_channels, len(unet.block_out_channels) - 1
    for level, width in enumerate(widths):
        for j in range(unet.layers_per_block):
            incoming = widths[max(level - 1, 0)] if j == 0 else width
            yield Site(f"down_{level}_{j}", level, width, level < last, incoming)
    yield Site("mid", last, widths[last], True, widths[last])
    for block, level in enumerate(reversed(range(len(widths)))):
        for j in range(unet.layers_per_block + 1):
            yield Site(f"up_{block}_{j}", level, widths[level], level < last, widths[max(level - 1, 0)])


def outer_sites(config: ModelConfig) -> tuple[Site, ...]:
    """Those that cached steps still compute."""
    kept, everything = config.deep_cache or 0, sites(config.unet)
    return (*everything[:kept], *everything[-kept - 1 :])


def time_channels(unet: UNetConfig) -> tuple[int, ...]:
    """Widths of the projected time embedding, one per residual block in the order of execution (``mid`` has two)."""
    widths: list[int] = []
    for site in sites(unet):
        widths += [site.channels] * (2 if site.name == "mid" else 1)
    return tuple(widths)


def has_temporal(config: ModelConfig, site: Site) -> bool:
    """Whether the temporal module of this site runs, and with it motion features and speed."""
    return site.attention or config.temporal.sites == "all"


def features_depend_on_guidance(config: ModelConfig) -> bool:
    """Whether the ReferenceNet's features differ between the guidance halves (Hallo: its face tokens do)."""
    return config.reference.face_tokens > 0


def reference_count(config: ModelConfig, guided: bool) -> int:
    """R: how many sets of reference K/V a portrait has, one per guidance half where they differ.

    Hallo deals both out in turn to the frames of the conditional half; see :mod:`emo_rt.export.networks.backbone`.
    """
    return 2 if guided and features_depend_on_guidance(config) else 1


def audio_heads(config: ModelConfig) -> tuple[str, ...]:
    """Name suffixes of the audio attentions at one site: one plain, or one per region."""
    return ("",) if config.audio.attention == "single" else tuple(f"_{region}" for region in AUDIO_REGIONS)


def step_graph(guided: bool, cached: bool = False) -> str:
    """Name of a step graph. ``cached``: it takes the inner blocks' result from an earlier step."""
    return "step" + "_cached" * cached + "_unguided" * (not guided)


STEP_GRAPHS = tuple(step_graph(guided, cached) for cached in (False, True) for guided in (True, False))
"""Every step graph that a bundle may have."""


def deep_features(guided: bool) -> str:
    """Name of what a full step leaves for cached ones."""
    return "deep_features" if guided else "deep_features_unguided"


def graph_specs(config: ModelConfig, dtype: str = "float32", guidance: Sequence[bool] = (True,)) -> list[GraphSpec]:
    """All graphs of a model in the order in which the runtime first needs them.

    ``guidance``: which step graphs to have: True gives ``step``, False gives ``step_unguided``. Where features
    depend on guidance (Hallo) and both are there, ``step_unguided`` takes the conditional half of those for ``step``.
    """
    builder = _SpecBuilder(config, dtype, True in guidance)
    specs = [builder.vae_encoder(), builder.audio_encoder(), builder.reference(), builder.clip()]
    specs.append(builder.timestep())
    cached = (False,) if config.deep_cache is None else (False, True)
    specs += [builder.step(guided, later) for later in cached for guided in guidance]
    specs.append(builder.vae_decoder())
    if config.motion_source == "reencoded":
        specs.append(builder.motion_encoder())
    return specs


class _SpecBuilder:
    def __init__(self, config: ModelConfig, dtype: str, guidance: bool) -> None:
        self.config, self.dtype, self.guidance = config, dtype, guidance
        self.sites = sites(config.unet)
        s = config.latent_size
        self.latents = (config.frames, config.vae.latent_channels, s, s)

    def vae_encoder(self) -> GraphSpec:
        pixels = TensorSpec("pixels", "float32", (1, 3, self.config.size, self.config.size))
        return GraphSpec("vae_encoder", (pixels,), (self._portrait_latent(),))

    def audio_encoder(self) -> GraphSpec:
        encoder = self.config.audio.encoder
        waveform = TensorSpec("waveform", "float32", (1, "samples"))
        hidden = ("video_frames", encoder.num_hidden_layers, encoder.hidden_size)
        return GraphSpec("audio_encoder", (waveform,), (TensorSpec("audio_hidden", "float32", hidden),))

    def reference(self) -> GraphSpec:
        size = self.config.size
        mask = TensorSpec("face_mask", "float32", (1, self.config.locator.in_channels, size, size))
        inputs = [self._portrait_latent(), mask]
        if self.config.reference.face_tokens:
            inputs.append(TensorSpec("face_embedding", "float32", (1, self.config.reference.face_embedding_dim)))
        return GraphSpec("reference", tuple(inputs), (*self._portrait_features(), *self._face_tokens()))

    def clip(self) -> GraphSpec:
        config, encoder = self.config, self.config.audio.encoder
        window = (config.frames, 2 * config.audio.context_frames + 1, encoder.num_hidden_layers, encoder.hidden_size)
        inputs = [self._motion_latents(), TensorSpec("audio_windows", "float32", window)]
        if config.speed:
            inputs.append(TensorSpec("speed", "float32", (config.frames,)))
        tokens = TensorSpec("audio_tokens", self.dtype, (config.frames, config.audio.tokens, config.audio.token_dim))
        outputs = (tokens, *self._clip_features(self.guidance))
        return GraphSpec("clip", (*inputs, *self._face_tokens()), outputs)

    def timestep(self) -> GraphSpec:
        return GraphSpec("timestep", (TensorSpec("timestep", "float32", (1,)),), (self._time_embedding(),))

    def step(self, guided: bool, cached: bool) -> GraphSpec:
        history = (X0_HISTORY, *self.latents)
        state = [TensorSpec("latents", "float32", self.latents), TensorSpec("x0_history", "float32", history)]
        inputs = [*state, self._time_embedding(), TensorSpec("coefficients", "float32", (COEFFICIENTS,))]
        if guided:
            inputs.append(TensorSpec("guidance_scale", "float32", (1,)))
        deep = [] if self.config.deep_cache is None else [self._deep_features(self.config.deep_cache, guided)]
        used = self._portrait_features() + self._clip_features(guided)
        if cached:
            outer = {site.name for site in outer_sites(self.config)}
            inputs += deep
            used = [tensor for tensor in used if tensor.name == "face_feature" or tensor.name.split(".")[-1] in outer]
        inputs += [*self._audio_weights(cached), *used]
        outputs = [TensorSpec(f"next_{tensor.name}", tensor.dtype, tensor.shape) for tensor in state]
        outputs.append(TensorSpec("prediction", "float32", (1 + guided, *self.latents)))
        return GraphSpec(step_graph(guided, cached), tuple(inputs), (*outputs, *([] if cached else deep)))

    def vae_decoder(self) -> GraphSpec:
        frames, size = self.config.decode_frames, self.config.size
        latents = TensorSpec("frame_latents", "float32", (frames, *self.latents[1:]))
        return GraphSpec("vae_decoder", (latents,), (TensorSpec("pixels_rgb", "uint8", (frames, size, size, 3)),))

    def motion_encoder(self) -> GraphSpec:
        frames, size = self.config.motion_frames, self.config.size
        last = TensorSpec("last_latents", "float32", (frames, *self.latents[1:]))
        pixels = TensorSpec("motion_pixels_rgb", "uint8", (frames, size, size, 3))
        return GraphSpec("motion_encoder", (last,), (self._motion_latents(), pixels))

    def _deep_features(self, kept: int, guided: bool) -> TensorSpec:
        """What comes out of the blocks that cached steps leave out."""
        unet, s = self.config.unet, self.config.latent_size
        level = 1 if kept == unet.layers_per_block and len(unet.block_out_channels) > 1 else 0
        shape = ((1 + guided) * self.config.frames, unet.block_out_channels[level], s, s)
        return TensorSpec(deep_features(guided), self.dtype, shape)

    def _portrait_latent(self) -> TensorSpec:
        return TensorSpec("portrait_latent", "float32", (1, *self.latents[1:]))

    def _motion_latents(self) -> TensorSpec:
        return TensorSpec("motion_latents", "float32", (self.config.motion_frames, *self.latents[1:]))

    def _time_embedding(self) -> TensorSpec:
        return TensorSpec("time_embedding", self.dtype, (1, sum(time_channels(self.config.unet))))

    def _face_tokens(self) -> list[TensorSpec]:
        reference = self.config.reference
        shape = (1, reference.face_tokens, reference.face_token_dim)
        return [TensorSpec("face_tokens", self.dtype, shape)] if reference.face_tokens else []

    def _heads(self, batch: int, tokens: int, channels: int) -> tuple[int, ...]:
        heads = self.config.unet.attention_heads
        return (batch, heads, tokens, channels // heads)

    def _pixels(self, site: Site) -> int:
        return (self.config.latent_size >> site.level) ** 2

    def _pair(self, kind: str, site: Site, shape: tuple[int, ...]) -> list[TensorSpec]:
        return [TensorSpec(f"{kind}_{part}.{site.name}", self.dtype, shape) for part in ("key", "value")]

    def _portrait_features(self) -> list[TensorSpec]:
        """What ``step`` needs of a portrait."""
        face, references = self.config.reference.face_tokens, reference_count(self.config, self.guidance)
        s = self.config.latent_size
        tensors = [TensorSpec("face_feature", self.dtype, (1, self.config.unet.block_out_channels[0], s, s))]
        for site in self.sites:
            if site.attention:
                tensors += self._pair("reference", site, self._heads(references, self._pixels(site), site.channels))
                tensors += self._pair("face", site, self._heads(1, face, site.channels)) if face else []
        return tensors

    def _clip_features(self, guided: bool) -> list[TensorSpec]:
        """What ``step`` needs of a clip."""
        config, tensors = self.config, []
        for site in self.sites:
            if site.attention:
                tensors += self._audio_pairs(site)
            if has_temporal(config, site):
                motion = (self._pixels(site), config.motion_frames, site.channels)
                tensors.append(TensorSpec(f"motion.{site.name}", self.dtype, motion))
                if guided and features_depend_on_guidance(config):
                    tensors.append(TensorSpec(f"motion_unconditional.{site.name}", self.dtype, motion))
            if config.speed and has_temporal(config, site):
                shape = (1, config.temporal.heads, config.frames, site.channels // config.temporal.heads)
                tensors += self._pair("speed", site, shape)
        return tensors

    def _audio_pairs(self, site: Site) -> list[TensorSpec]:
        config = self.config
        channels = site.channels if config.audio.attention == "single" else site.audio_channels
        shape = self._heads(config.frames, config.audio.tokens, channels)
        return [tensor for suffix in audio_heads(config) for tensor in self._pair(f"audio{suffix}", site, shape)]

    def _audio_weights(self, cached: bool) -> list[TensorSpec]:
        """Masks and weights of the hierarchical audio attention."""
        if self.config.audio.attention == "single":
            return []
        regions = len(AUDIO_REGIONS)
        used = outer_sites(self.config) if cached else self.sites
        levels = {site.level: self._pixels(site) for site in used if site.attention}
        masks = [TensorSpec(f"audio_mask.{level}", "float32", (regions, n)) for level, n in levels.items()]
        return [TensorSpec("motion_scale", "float32", (regions,)), *masks]
