"""The small bundles of ``tests/bundles/``: graphs and manifests from the exporter, weights from a counter.

A test needs a bundle, not torch. ``tests/make_bundles.py`` gives every parameter of a small model the values of
:func:`values`, exports it, and packs what came out, except the weights: of these it notes which parameter they are.
:func:`unpack` computes them again, so that the bundle is the exporter's own, byte for byte, as its hashes say.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from emo_rt.export.presets import preset
from emo_rt.model.config import AudioConfig, ModelConfig, ReferenceConfig, TemporalConfig, WhisperConfig
from emo_rt.model.families.echomimic import offers

FOLDER = Path(__file__).with_name("bundles")
RECIPE, RESIDUE = "weights.json", "weights.bin"
"""Names in an archive: where each piece of each weight file comes from, and the bytes that are no parameter."""

REMAKE = "python -m tests.make_bundles"
"""The command that makes the archives anew."""
STALE = f"the exporter changed; make the small bundles anew with `{REMAKE}`"
"""What a test says that finds them old."""


@dataclass(frozen=True)
class Small:
    """One small bundle."""

    config: ModelConfig
    """Shapes of the model."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``ExportOptions``; those at their defaults are left out."""


def hallo_tiny() -> ModelConfig:
    """The tiny preset in the manner of the public Hallo checkpoint."""
    tiny, hallo = preset("tiny"), preset("hallo")
    small = tiny.audio
    audio = AudioConfig(
        encoder=small.encoder,
        tokens=small.tokens,
        token_dim=small.token_dim,
        projector_dim=small.projector_dim,
        attention="hierarchical",
        normalize=True,
        window_frames=0,
    )
    return replace(
        hallo,
        name="hallo-tiny",
        size=tiny.size,
        frames=6,
        unet=tiny.unet,
        reference=ReferenceConfig(mode="concat", face_tokens=2, face_embedding_dim=8, face_token_dim=16),
        audio=audio,
        temporal=replace(hallo.temporal, heads=2, max_positions=8),
        locator=replace(hallo.locator, channels=tiny.locator.channels),
        vae=tiny.vae,
    )


def echomimic_tiny() -> ModelConfig:
    """The tiny preset in the manner of the public EchoMimic checkpoint; pieces of sound last a second, not 30."""
    tiny, echomimic = preset("tiny"), preset("echomimic")
    encoder = WhisperConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, mel_bins=80, positions=50
    )
    return replace(
        echomimic,
        name="echomimic-tiny",
        size=tiny.size,
        frames=6,
        decode_frames=2,
        unet=tiny.unet,
        audio=replace(echomimic.audio, encoder=encoder, tokens=20, token_dim=16),
        temporal=replace(echomimic.temporal, heads=2, max_positions=8),
        locator=replace(echomimic.locator, channels=tiny.locator.channels),
        vae=tiny.vae,
    )


def lean() -> ModelConfig:
    """The tiny preset with fewer nodes: tracing takes a time that grows with them."""
    tiny = preset("tiny")
    return replace(
        tiny,
        name="lean",
        audio=replace(tiny.audio, encoder=replace(tiny.audio.encoder, num_hidden_layers=1)),
        temporal=TemporalConfig(heads=2, attention_layers=1, max_positions=8),
        speed=None,
    )


def wide() -> ModelConfig:
    """The tiny preset with heads of 16 and 32 channels, for which TensorRT has fused kernels in half precision."""
    tiny = preset("tiny")
    return replace(tiny, name="wide", unet=replace(tiny.unet, block_out_channels=(32, 64)))


def golden() -> ModelConfig:
    """A small Hallo whose weights a folder of golden vectors can hold: its format has groups of 32 channels."""
    tiny = hallo_tiny()
    encoder = replace(tiny.audio.encoder, num_hidden_layers=2)
    return replace(
        tiny,
        frames=3,
        motion_frames=1,
        guidance=1.0,
        decode_frames=1,
        unet=replace(tiny.unet, block_out_channels=(32, 64), norm_groups=32),
        audio=replace(tiny.audio, encoder=encoder, tokens=3),
    )


SMALL = {
    "tiny": Small(preset("tiny"), {"guidance": (True, False)}),
    "tiny-cached": Small(preset("tiny"), {"guidance": (True, False), "deep_cache": 0}),
    "wide-fp16": Small(wide(), {"dtype": "float16"}),
    "hallo": Small(hallo_tiny()),
    "echomimic": Small(echomimic_tiny(), {"guidance": (True, False), "offers": offers(is_accelerated=False)}),
    "golden": Small(golden(), {"guidance": (False,)}),
    "lean-half": Small(lean(), {"half_storage": True}),
    "lean-fp16": Small(lean(), {"dtype": "float16", "guidance": (False,)}),
}
"""Every small bundle by the name of its archive."""


def name_of(config: ModelConfig, options: Mapping[str, Any]) -> str | None:
    """The archive with the export of ``config`` and ``options``, if there is one."""
    return next((name for name, small in SMALL.items() if small == Small(config, options)), None)


def archive(name: str) -> Path:
    """The packed bundle of that name."""
    return FOLDER / f"{name}.tar.xz"


def values(parameter: str, shape: tuple[int, ...], mean: float, scale: float) -> np.ndarray:
    """The weights of a parameter: float32, even over ``mean`` ± ``scale``, the same on every machine.

    PCG64's raw numbers never change between versions of numpy; what its other methods make of them may.
    """
    raw = np.random.PCG64(zlib.crc32(parameter.encode())).random_raw(int(np.prod(shape, dtype=int)))
    even = (np.asarray(raw, np.uint64) >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return (np.float32(mean) + np.float32(scale) * even).reshape(shape)


def unpack(name: str, parent: Path) -> Path:
    """The bundle folder ``name`` under ``parent``, made there if no process has made it before."""
    packed = archive(name).read_bytes()
    target = parent / f"{name}-{zlib.crc32(packed + Path(__file__).read_bytes()):08x}"
    with FileLock(parent / f"{name}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=parent) as scratch:
                folder = Path(scratch, "bundle")
                with tarfile.open(archive(name)) as tar:
                    tar.extractall(folder, filter="data")
                _write_weights(folder)
                folder.rename(target)
    return target


def _write_weights(folder: Path) -> None:
    recipe = json.loads((folder / RECIPE).read_text())
    residue = (folder / RESIDUE).read_bytes()
    parameters = {key: values(key, *entry) for key, entry in recipe["parameters"].items()}
    for file, pieces in recipe["files"].items():
        data = bytearray(pieces["bytes"])
        for start, length, source, *kind in pieces["pieces"]:
            data[start : start + length] = (
                residue[source : source + length] if isinstance(source, int) else stored(parameters[source], *kind)
            )
        (folder / file).write_bytes(data)
    for name in (RECIPE, RESIDUE):
        (folder / name).unlink()


def stored(parameter: np.ndarray, dtype: str, transposed: bool) -> bytes:
    """Bytes of a parameter as the exporter stores it: matrices of linear layers transposed, others as they are."""
    return np.ascontiguousarray(parameter.T if transposed else parameter).astype(dtype).tobytes()
