"""Which of several GPUs: ``cuda:1`` from the name that a caller gives down to what is opened.

Two stand-ins play the GPUs; what real cuda-core does with two is in tests/card.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_stand_in import StandInBackend, StandInDevice

from emo_rt import Animator, Bundle
from emo_rt.cli import main
from emo_rt.device import registry
from emo_rt.device.base import Backend
from emo_rt.device.builtin import OnGpu
from emo_rt.device.device_name import DeviceKind, DeviceName
from emo_rt.device.registry import open_backend
from emo_rt.errors import BackendUnavailableError, ConfigError
from emo_rt.runtime.runtime import Runtime


class StandInEntry(OnGpu):
    """A backend on two GPUs."""

    NAME, DEVICE = "stand-in", "cuda"

    def auto(self, bundle: Bundle | None) -> str | None:
        return None

    def open(self, threads: int | None) -> Backend:
        if self.index > 1:
            raise BackendUnavailableError(f"there is no GPU {self.index}")
        return StandInBackend(StandInDevice(index=self.index))


class FirstOnly:
    """One that knows nothing of numbers."""

    NAME, DEVICE = "first", "cuda"
    auto, open = StandInEntry().auto, StandInEntry().open


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda: (StandInEntry(), FirstOnly(), *real))
    monkeypatch.setattr(registry, "backend_names", lambda: ("auto", "stand-in", "first", "onnxruntime", "tensorrt"))


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("cpu", DeviceName("cpu"), "cpu"),
        ("cuda", DeviceName("cuda"), "cuda"),
        ("cuda:0", DeviceName("cuda"), "cuda"),
        ("cuda:1", DeviceName("cuda", 1), "cuda:1"),
        ("cuda:12", DeviceName("cuda", 12), "cuda:12"),
    ],
)
def test_names(text: str, name: DeviceName, shown: str) -> None:
    assert DeviceName.read(text) == name
    assert str(name) == shown
    assert DeviceKind().has(text)


@pytest.mark.parametrize("wrong", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1000", "cpu:1", "CUDA:1", "", 1, None])
def test_names_of_no_device(wrong: Any) -> None:
    assert not DeviceKind().has(wrong)
    with pytest.raises(ConfigError, match=r"expected one of cpu, cuda, cuda:N \(the GPU with number N\)"):
        DeviceName.read(wrong)
    with pytest.raises(ConfigError, match=r"device is .*; expected one of auto, cpu, cuda, cuda:N"):
        open_backend(device=wrong)


def test_a_model_on_each_of_two_gpus(tiny_bundle: Bundle, two_gpus: None) -> None:
    """Each has a runtime of its own, which all models on that GPU share; the frames are the same."""

    def load(device: str) -> Animator:
        return Animator.load(tiny_bundle.path, device=device, backend="stand-in")

    sound = 0.1 * np.random.default_rng(1).standard_normal(2560, np.float32)
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    with load("cuda:0") as first, load("cuda:1") as second, load("cuda:1") as third:
        assert [one.device for one in (first, second, third)] == ["cuda", "cuda:1", "cuda:1"]
        assert second._runtime is third._runtime is Runtime.shared("cuda:1")
        assert first._runtime is Runtime.shared("cuda") is not second._runtime
        avatars = [one.prepare(picture, face_box="full") for one in (first, second)]
        frames = [
            one.animate(avatar, sound, sample_rate=16_000, steps=2).numpy()
            for one, avatar in zip((first, second), avatars, strict=True)
        ]
    np.testing.assert_array_equal(*frames)


def test_a_runtime_is_of_one_gpu(tiny_bundle: Bundle, two_gpus: None) -> None:
    with pytest.raises(ConfigError, match="runtime is 'cuda'; expected a runtime of the device cuda:1"):
        Animator.load(tiny_bundle.path, device="cuda:1", backend="stand-in", runtime=Runtime("cuda:0"))
    with pytest.raises(ConfigError, match="device is 'cuda:x'"):
        Runtime("cuda:x")


def test_what_is_not_on_that_gpu_is_refused(two_gpus: None) -> None:
    with pytest.raises(BackendUnavailableError, match=r"device 'cuda:2' and backend 'stand-in' .*there is no GPU 2"):
        open_backend("stand-in", "cuda:2")
    with pytest.raises(BackendUnavailableError, match="'first' does not run on device 'cuda:1'; use device 'cuda'"):
        open_backend("first", "cuda:1")
    with open_backend("first", "cuda:0") as opened:
        assert opened.device == "cuda"


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_our_backends_ask_for_the_gpu_with_that_number(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def current_gpu(index: int = 0) -> None:
        raise BackendUnavailableError(f"GPU {index} is not here")

    monkeypatch.setattr("emo_rt.device.tensorrt.gpus.current_gpu", current_gpu)
    with pytest.raises(BackendUnavailableError, match="GPU 3 is not here"):
        open_backend(backend, "cuda:3")


def test_a_server_on_two_gpus(
    tiny_bundle: Bundle, two_gpus: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command loads every model on both, with nothing shared between them."""
    seen = []

    def serve(options: Any, *devices: list[Animator]) -> None:
        assert options.device_names == ("cuda:0", "cuda:1")
        seen.extend((one.device, one._runtime.device, id(one._runtime)) for animators in devices for one in animators)

    monkeypatch.setattr("emo_rt.serve.server.serve", serve)
    arguments = ["serve", str(tiny_bundle.path), "--devices", "cuda:0,cuda:1", "--backend", "stand-in"]
    assert main(arguments) == 0, capsys.readouterr().err
    assert [one[:2] for one in seen] == [("cuda", "cuda"), ("cuda:1", "cuda:1")]
    assert seen[0][2] != seen[1][2]
