"""The contract between export and runtime: which graphs exist, and every tensor that they take and give, by name.

Tensors with one name are one buffer: what a graph gives under a name, the next takes under the same name, with the
same shape and type. F = frames of a clip, N = motion frames, S = latent size, ``dtype`` = the network's float type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """Unique in its bundle; of graphs that serve one role alone, the role."""
    inputs: tuple[TensorSpec, ...]
    """Tensors it takes."""
    outputs: tuple[TensorSpec, ...]
    """Tensors it gives."""
    role: str = ""
    """What it is run for: ``vae_encoder``, ``audio_encoder``, ``reference``, ``clip``, ``timestep``, ``step``, …;
    empty = the name."""
    variant: str | None = None
    """The variant of the weights that it belongs to; ``None`` = it serves all variants."""
    guided: bool = False
    """Of a ``step``: whether it computes both halves of classifier-free guidance."""
    cached: bool = False
    """Of a ``step``: whether it takes the inner blocks' result from an earlier step."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", self.role or self.name)

    @property
    def is_on_demand(self) -> bool:
        """Whether it is opened when it is first asked for: most runs need one of several step graphs, and many need
        no second variant's ``reference``."""
        return self.role == "step" or (self.role == "reference" and self.variant is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        kind = {name: getattr(self, name) for name in ("role", "variant", "guided", "cached")}
        rows = {"inputs": self.inputs, "outputs": self.outputs}
        tensors = {side: [[t.name, t.dtype, list(t.shape)] for t in tensors] for side, tensors in rows.items()}
        return {name: value for name, value in kind.items() if value not in (None, False)} | tensors

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> GraphSpec:
        """Read what :meth:`to_dict` gave. Raises :class:`BundleError` when it does not have that form."""
        try:
            inputs, outputs = (
                tuple(TensorSpec(n, d, tuple(s)) for n, d, s in data[side]) for side in ("inputs", "outputs")
            )
            kind = {key: value for key, value in data.items() if key not in ("inputs", "outputs")}
            spec = cls(name, inputs, outputs, **kind)
            texts = (spec.role, spec.variant or "")
            if not all(isinstance(text, str) for text in texts) or {type(spec.guided), type(spec.cached)} != {bool}:
                raise ValueError(f"role, variant, guided and cached are {kind}")
        except (KeyError, TypeError, ValueError) as exc:
            raise BundleError(f"the manifest's description of graph {name!r} is malformed: {exc}") from exc
        for tensor in (*inputs, *outputs):
            if not _is_well_formed(tensor):
                raise BundleError(
                    f"the manifest's description of graph {name!r} is malformed: {tensor}; expected a name, one of "
                    f"{', '.join(DTYPES)}, and sizes of 1 or more or the names of dynamic axes"
                )
        return spec


OF_VARIANTS = ("reference", "clip", "timestep", "step")
"""Roles of which each variant may have graphs of its own: those with weights that step, or with what is projected for
them."""


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


def step_graph(guided: bool, cached: bool = False) -> str:
    """Name of a step graph. ``cached``: it takes the inner blocks' result from an earlier step."""
    return "step" + "_cached" * cached + "_unguided" * (not guided)


STEP_GRAPHS = tuple(step_graph(guided, cached) for cached in (False, True) for guided in (True, False))
"""Every step graph that a bundle may have."""


def deep_features(guided: bool) -> str:
    """Name of what a full step leaves for cached ones."""
    return "deep_features" if guided else "deep_features_unguided"
