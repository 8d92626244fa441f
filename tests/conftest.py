"""Shared fixtures: small models, exported once per test run (and kept in pytest's cache until the exporter changes)."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from emo_rt import Animator, Bundle
from emo_rt.model.config import AudioConfig, ModelConfig, ReferenceConfig

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

ExportTiny = Callable[..., Bundle]


def shared_file(name: str) -> Path:
    """A file of the shared folder beside the checkout; skips the test where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the shared folder beside the checkout, which is not here")
    return path


def hallo_tiny() -> ModelConfig:
    """The tiny preset in the manner of the public Hallo checkpoint."""
    from emo_rt.export.presets import preset

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


@pytest.fixture(scope="session")
def export_tiny(request: pytest.FixtureRequest) -> ExportTiny:
    """``export_tiny(config, dtype=…, guidance=…)``: a bundle with random weights, from the cache if it is there."""
    from emo_rt.export.networks.model import build_model
    from emo_rt.export.onnx_export import ExportOptions, export_bundle

    sources = [path for folder in ("export", "emo_rt") for path in sorted((ROOT / folder).rglob("*.py"))]
    relevant = [path for path in sources if path.parent.name != "emo_rt" or path.name in ("graphs.py", "config.py")]
    code = b"".join(path.read_bytes() for path in relevant)
    cache: Path = request.config.cache.mkdir("emo_rt_bundles")  # type: ignore[union-attr]

    def export(config: ModelConfig, **options: object) -> Bundle:
        chosen = ExportOptions(**options)  # type: ignore[arg-type]
        key = hashlib.sha256(code + repr((config, chosen)).encode()).hexdigest()[:24]
        target = cache / key
        with FileLock(cache / f"{key}.lock"):  # tests run in several processes
            if not target.exists():
                export_bundle(build_model(config, seed=3), target, chosen, logging.getLogger(__name__).info)
        return Bundle.open(target)

    return export


@pytest.fixture(scope="session")
def tiny_bundle(export_tiny: ExportTiny) -> Bundle:
    """The tiny preset, fp32, with both step graphs."""
    from emo_rt.export.presets import preset

    return export_tiny(preset("tiny"), guidance=(True, False))


@pytest.fixture(scope="session")
def cached_bundle(export_tiny: ExportTiny) -> Bundle:
    """As ``tiny_bundle``, and with step graphs that reuse the inner blocks' result."""
    from emo_rt.export.presets import preset

    return export_tiny(preset("tiny"), guidance=(True, False), deep_cache=0)


@pytest.fixture(scope="session")
def hallo_bundle(export_tiny: ExportTiny) -> Bundle:
    """The tiny preset in the manner of Hallo, fp32."""
    return export_tiny(hallo_tiny())


@pytest.fixture
def bundle_copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def tiny_animator(tiny_bundle: Bundle) -> Iterator[Animator]:
    """A loaded tiny model."""
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        yield animator


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """No test leaves a thread of the runtime behind."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]
    assert not left, f"threads left behind: {left}"
