"""Shared fixtures: small models, unpacked once from ``tests/bundles/``, and what a test asks of its folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from emo_rt import Animator, Bundle
from emo_rt.device.base import Graph
from emo_rt.device.onnxruntime_cpu import OrtBackend, OrtGraph, check_nodes
from emo_rt.faces import networks
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.echomimic import offers
from tests import small_bundles
from tests.small_bundles import echomimic_tiny, hallo_tiny

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

os.environ.setdefault("EMO_RT_EXACT", "1")  # many tests compare bit by bit, on whatever processor
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: as many tests run side by side as there are cores

if TYPE_CHECKING:
    from tests.documents import Place

LARGEST_SMALL = 10_000_000
"""Bytes of a small bundle, at most."""

ExportTiny = Callable[..., Bundle]


def shared_file(name: str) -> Path:
    """A file of the shared folder beside the checkout; skips the test where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the shared folder beside the checkout, which is not here")
    return path


@pytest.fixture(scope="session")
def bundle_cache(request: pytest.FixtureRequest) -> Path:
    """The folder in pytest's cache that holds the small bundles, for all processes and runs."""
    assert request.config.cache is not None
    return request.config.cache.mkdir("emo_rt_bundles")


@pytest.fixture(scope="session")
def export_tiny(bundle_cache: Path) -> ExportTiny:
    """``export_tiny(config, dtype=…, guidance=…)``: a bundle with random weights; not exported if it is a small one
    of ``tests/bundles/``."""

    def export(config: ModelConfig, **options: object) -> Bundle:
        name = small_bundles.name_of(config, options)
        return Bundle.open(small_bundles.unpack(name, bundle_cache)) if name else _export(config, options, bundle_cache)

    return export


def _export(config: ModelConfig, options: dict[str, object], cache: Path) -> Bundle:
    """Export for real, once per version of the exporter."""
    from emo_rt.export.onnx_export import ExportOptions, export_bundle
    from tests.make_bundles import bundle_model

    sources = [*sorted((ROOT / "export").rglob("*.py")), *sorted((ROOT / "emo_rt" / "model").rglob("*.py"))]
    code = b"".join(path.read_bytes() for path in (*sources, *sorted((ROOT / "tests").glob("*_bundles.py"))))
    chosen = ExportOptions(**options)  # type: ignore[arg-type]
    target = cache / hashlib.sha256(code + repr((config, chosen)).encode()).hexdigest()[:24]
    with FileLock(target.with_suffix(".lock")):  # tests run in several processes
        if not target.exists():
            export_bundle(bundle_model(config), target, chosen, logging.getLogger(__name__).info)
    return Bundle.open(target)


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


@pytest.fixture(scope="session")
def echomimic_bundle(export_tiny: ExportTiny) -> Bundle:
    """The tiny preset in the manner of EchoMimic, fp32, with both step graphs."""
    return export_tiny(echomimic_tiny(), guidance=(True, False), offers=offers(is_accelerated=False))


@pytest.fixture
def bundle_copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


@pytest.fixture
def place(tiny_bundle: Bundle, hallo_bundle: Bundle, echomimic_bundle: Bundle, tmp_path: Path) -> Place:
    """Where a block of the documents runs."""
    from tests.documents import make_place

    return make_place(tmp_path, tiny_bundle, hallo_bundle, echomimic_bundle)


@pytest.fixture(scope="session")
def tiny_animator(tiny_bundle: Bundle) -> Iterator[Animator]:
    """A loaded tiny model."""
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        yield animator


@pytest.fixture
def own_animator(tiny_bundle: Bundle) -> Iterator[Animator]:
    """A loaded tiny model that a test may close."""
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        yield animator


@pytest.fixture(scope="session")
def onnx_sessions() -> dict[object, Any]:
    """What :func:`opened_once` has opened."""
    return {}


@pytest.fixture(scope="module")
def opened_once(onnx_sessions: dict[object, Any]) -> Iterator[None]:
    """ONNX Runtime opens each graph of the small bundles and each face network once for all tests of a process,
    whatever folder they are in: that takes longer than running them. For modules whose tests load a model each."""
    real, to_face = OrtBackend._open, networks._in_onnxruntime

    def open_graph(backend: OrtBackend, bundle: Bundle, graph: str) -> Graph:
        if bundle.size_bytes > LARGEST_SMALL:
            return real(backend, bundle, graph)
        spec = bundle.graphs[graph]
        key = (bundle.sha256, graph, backend._threads)
        if key not in onnx_sessions:
            opened = real(backend, bundle, graph)
            assert isinstance(opened, OrtGraph)
            onnx_sessions[key] = opened.inner
        check_nodes(spec, onnx_sessions[key])
        return OrtGraph(spec, onnx_sessions[key])

    def open_face_network(path: Path, outputs: Sequence[str]) -> networks.Network:
        if path not in onnx_sessions:
            onnx_sessions[path] = to_face(path, outputs)
        found: networks.Network = onnx_sessions[path]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OrtBackend, "_open", open_graph)
        patch.setattr(networks, "_in_onnxruntime", open_face_network)
        yield


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """No test leaves a thread of the runtime behind."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]
    assert not left, f"threads left behind: {left}"
