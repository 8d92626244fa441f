"""Finding TensorRT, its log, and the GPU that is here."""

from __future__ import annotations

import ctypes
import importlib
import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from emo_rt.device.tensorrt import gpus
from emo_rt.device.tensorrt import package as tensorrt_package
from emo_rt.device.tensorrt.gpus import Gpu, current_gpu, gpu_memory
from emo_rt.device.tensorrt.package import LogLine, load_package, problem
from emo_rt.errors import BackendError, BackendUnavailableError, ConfigError, MissingDependencyError


class Sink:
    def __init__(self) -> None:
        pass


def stand_in(name: str, version: str, **more: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(__version__=version, ILogger=Sink, **more)
    return module


@pytest.fixture(autouse=True)
def forgetful() -> Any:
    """What a test loads in its own way is not kept."""
    tensorrt_package._load.cache_clear()
    yield
    tensorrt_package._load.cache_clear()


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tensorrt_package.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


class TestLoading:
    def test_real_package(self) -> None:
        pytest.importorskip("tensorrt_rtx")
        package = load_package("tensorrt_rtx")
        assert package.is_rtx
        assert {"sm86", "sm89", "sm120", "sm121"} <= set(package.capabilities)
        assert package.capabilities == tuple(sorted(package.capabilities, key=lambda name: int(name[2:])))
        assert package.dtype_name(package.module.DataType.HALF) == "float16"
        assert package.runtime() is not None
        assert load_package("tensorrt_rtx") is package

    def test_auto_prefers_the_data_centre_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in("tensorrt", "11.4.0.106"))
        package = load_package()
        assert (package.name, package.version, package.is_rtx, package.capabilities) == (
            "tensorrt",
            "11.4.0.106",
            False,
            (),
        )

    @pytest.mark.usefixtures("nothing_installed")
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("auto", "pip install 'emo_rt[tensorrt]' or pip install 'emo_rt[tensorrt-rtx]'"),
            ("tensorrt", "pip install 'emo_rt[tensorrt]'"),
            ("tensorrt_rtx", "pip install 'emo_rt[tensorrt-rtx]'"),
        ],
    )
    def test_missing(self, name: str, words: str) -> None:
        with pytest.raises(MissingDependencyError) as caught:
            load_package(name)
        assert str(caught.value).endswith(words)

    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match="one of auto, tensorrt, tensorrt_rtx"):
            load_package("tensorflow")

    @pytest.mark.parametrize(
        "exc", [OSError("libcudart.so.13: cannot open"), ModuleNotFoundError(name="tensorrt_libs")]
    )
    def test_broken(self, monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
        def fail(name: str) -> ModuleType:
            raise exc

        monkeypatch.setattr(importlib, "import_module", fail)
        with pytest.raises(BackendError, match="installed but does not load"):
            load_package("tensorrt")

    @pytest.mark.parametrize("version", ["10.3.0", "8.6.1", "10.13.3.9", "unknown"])
    def test_too_old(self, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in("tensorrt", version))
        with pytest.raises(BackendError, match=r"needs 10\.14 or newer"):
            load_package("tensorrt")

    def test_runtime_that_cannot_be_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(sink: Any) -> None:
            sink.log(SimpleNamespace(name="ERROR"), "CUDA initialization failure")
            raise TypeError("factory function returned nullptr")

        monkeypatch.setitem(sys.modules, "tensorrt", stand_in("tensorrt", "11.4.0", Runtime=fail))
        with pytest.raises(BackendError, match=r"tensorrt 11\.4\.0 gives no runtime: CUDA initialization failure"):
            load_package("tensorrt").runtime()


class TestLog:
    def test_goes_to_logging_and_listeners(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in("tensorrt", "11.4.0"))
        package = load_package("tensorrt")
        caplog.set_level(logging.DEBUG, tensorrt_package.__name__)
        with package.listen() as heard, package.listen(lambda line: line.severity == "VERBOSE") as chatter:
            for severity in ("ERROR", "WARNING", "INFO", "VERBOSE"):
                package.logger.log(SimpleNamespace(name=severity), severity.lower())
        package.logger.log(SimpleNamespace(name="ERROR"), "later")
        assert [line.text for line in heard] == ["error", "warning", "info"]
        assert chatter == [LogLine("VERBOSE", "verbose")]
        levels = [(record.levelname, record.message) for record in caplog.records]
        assert levels == [("ERROR", "error"), ("WARNING", "warning"), ("DEBUG", "info"), ("ERROR", "later")]

    def test_problem_in_its_words(self) -> None:
        lines = [LogLine("WARNING", "careful"), LogLine("ERROR", "first\n  cause"), LogLine("ERROR", "then")]
        assert problem(lines) == "first cause"
        assert problem([], ValueError("it")) == "it"
        assert problem([]) == "it does not say why"


class Refits:
    """A refitter and its parser, as far as :meth:`TensorRT.refit` needs them."""

    def __init__(self, works: bool) -> None:
        self.works, self.seen = works, list[str]()

    def module(self) -> ModuleType:
        return stand_in(
            "tensorrt", "11.4.0", Refitter=lambda engine, logger: self, OnnxParserRefitter=lambda refitter, logger: self
        )

    def refit_from_file(self, name: str) -> bool:
        self.seen.append(name)
        return True

    def refit_cuda_engine(self) -> bool:
        return self.works

    def get_missing_weights(self) -> list[str]:
        return ["bias"]


@pytest.mark.parametrize("works", [True, False])
def test_refit(monkeypatch: pytest.MonkeyPatch, works: bool, tmp_path: Any) -> None:
    refits = Refits(works)
    monkeypatch.setitem(sys.modules, "tensorrt", refits.module())
    package = load_package("tensorrt")
    if works:
        package.refit(object(), tmp_path / "step.onnx")
    else:
        with pytest.raises(BackendError, match="1 are missing"):
            package.refit(object(), tmp_path / "step.onnx")
    assert refits.seen == [str(tmp_path / "step.onnx")]


class Driver:
    """A CUDA driver with one RTX 4090."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0 if index == 0 else 101

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"NVIDIA GeForce RTX 4090"
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        size._obj.value = 24 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {gpus.MAJOR: 8, gpus.MINOR: 9}[attribute]
        return 0


class TestGpu:
    def test_asks_the_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
        assert current_gpu() == Gpu("NVIDIA GeForce RTX 4090", "sm89")
        assert gpu_memory() == 24 << 30
        for ask in (current_gpu, gpu_memory):
            with pytest.raises(BackendUnavailableError, match="gives no GPU 1: cuDeviceGet returned 101"):
                ask(1)

    def test_no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=100))
        with pytest.raises(BackendUnavailableError, match="cuInit returned 100"):
            current_gpu()

    def test_no_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpus, "DRIVER", "libcuda_that_is_not_here.so")
        with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
            current_gpu()
