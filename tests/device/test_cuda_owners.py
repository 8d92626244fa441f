"""The owners over `cuda.core`: errors translated in one place, everything closed once, captures ended in every case.

`cuda.core` is played by a small fake with its names; `test_the_real_package_has_what_is_called` holds those against it.
"""

from __future__ import annotations

import importlib.util
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emo_rt.device.cuda.device import Device, open_device
from emo_rt.device.cuda.status import STICKY, Health, sticky_error, value_of
from emo_rt.errors import BackendError, BackendUnavailableError, CaptureError, ClosedError, DeviceLostError


class Fake:
    """Notes every call; ``fails`` names one that raises."""

    def __init__(self, log: list[str], name: str, fails: dict[str, str]) -> None:
        self.log, self.name, self.fails = log, name, fails

    def _note(self, call: str) -> None:
        self.log.append(f"{self.name}.{call}")
        if call in self.fails:
            raise RuntimeError(self.fails[call])


class FakeBuffer(Fake):
    def __init__(self, log: list[str], fails: dict[str, str], nbytes: int) -> None:
        super().__init__(log, "buffer", fails)
        self.memory = np.full(nbytes, 7, np.uint8)
        self.handle = self.memory.ctypes.data

    def fill(self, value: int, *, stream: Any) -> None:
        self._note("fill")
        self.memory[:] = value

    def copy_to(self, target: Any, *, stream: Any) -> None:
        self._note("copy_to")

    def close(self, stream: Any = None) -> None:
        self._note("close")


class FakeBuilder(Fake):
    def begin_building(self, mode: str) -> None:
        self._note(f"begin_building {mode}")

    def end_building(self) -> None:
        self._note("end_building")

    def complete(self) -> Any:
        self._note("complete")
        return SimpleNamespace(
            upload=lambda stream: self._note("upload"),
            launch=lambda stream: self._note("launch"),
            close=lambda: self._note("close graph"),
        )

    def close(self) -> None:
        self._note("close")


class FakeStream(Fake):
    handle = 4242

    def __getattr__(self, call: str) -> Any:
        return lambda *_: self._note(call)

    def create_graph_builder(self) -> FakeBuilder:
        return FakeBuilder(self.log, "builder", self.fails)


class FakeDevice(Fake):
    device_id, compute_capability = 0, (9, 0)

    def set_current(self) -> None:
        self._note("set_current")

    def create_stream(self, *, options: Any) -> FakeStream:
        self._note(f"create_stream {options.priority}")
        return FakeStream(self.log, "stream", self.fails)

    def create_event(self, options: Any) -> Any:
        return SimpleNamespace(sync=lambda: self._note("event.sync"), close=lambda: self._note("event.close"))

    def allocate(self, nbytes: int, *, stream: Any) -> FakeBuffer:
        self._note("allocate")
        return FakeBuffer(self.log, self.fails, nbytes)


class Rig:
    def __init__(self, index: int = 0) -> None:
        self.log, self.fails = list[str](), dict[str, str]()
        core = SimpleNamespace(
            StreamOptions=SimpleNamespace,
            EventOptions=SimpleNamespace,
            LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=lambda n: FakeBuffer(self.log, self.fails, n)),
            Buffer=SimpleNamespace(from_handle=lambda *_, **__: FakeBuffer(self.log, self.fails, 1)),
        )
        inner = FakeDevice(self.log, "device", self.fails)
        inner.device_id = index
        self.device = Device(inner, core)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS: While executing a kernel …", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("Cuda Runtime (cudaError 719: unspecified launch failure)", "CUDA_ERROR_LAUNCH_FAILED"),
        ("CUDA error: device-side assert triggered", "CUDA_ERROR_ASSERT"),
        ("CUDA_ERROR_OUT_OF_MEMORY", None),
        ("CUDA failure 2: out of memory", None),
        ("cudaError 35: CUDA driver version is insufficient", None),
        ("shape 700 does not fit", None),
    ],
)
def test_lasting_errors_are_recognised(message: str, name: str | None) -> None:
    assert sticky_error(message) == name


@pytest.mark.parametrize("name", STICKY)
def test_after_a_lasting_error_every_call_says_to_reload(name: str) -> None:
    health = Health()
    with (
        pytest.raises(DeviceLostError, match=rf"{name} \({STICKY[name]}\) while it should copy.*load it again"),
        health.check("copy"),
    ):
        raise RuntimeError(f"{name}: words")
    entered = []
    with pytest.raises(DeviceLostError, match=name), health.check("do anything"):
        entered.append(1)
    assert not entered


def test_another_error_is_translated_and_passes() -> None:
    health = Health()
    with (
        pytest.raises(BackendError, match="cannot allocate 5 MB: RuntimeError: CUDA_ERROR_OUT_OF_MEMORY") as error,
        health.check("allocate 5 MB"),
    ):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")
    assert isinstance(error.value.__cause__, RuntimeError)
    with health.check("go on"):
        pass


def test_our_own_errors_stay_as_they_are() -> None:
    with pytest.raises(ClosedError), Health().check("copy"):
        raise ClosedError("closed")


def test_statuses_of_the_bindings() -> None:
    assert value_of((0, 5)) == 5
    assert value_of((0, 5, 6)) == (5, 6)
    status = type("Status", (), {"name": "CUDA_ERROR_INVALID_VALUE", "__int__": lambda self: 1})()
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        value_of((status, None))


def test_new_memory_is_zero_and_goes_back_once(rig: Rig) -> None:
    memory = rig.device.memory(64)
    assert not memory.inner.memory.any()
    memory.close()
    memory.close()
    with pytest.raises(ClosedError):
        _ = memory.inner
    assert "buffer.close" not in rig.log  # work that is enqueued may still use it
    rig.device.collect()
    rig.device.collect()
    assert rig.log.count("buffer.close") == 1


def test_memory_that_is_dropped_goes_back_behind_the_streams_work(rig: Rig) -> None:
    rig.device.stream()
    rig.device.memory(64)
    rig.log.clear()
    rig.device.collect()
    assert rig.log == ["stream.record", "stream.wait", "buffer.close"]


def test_nothing_is_given_back_during_a_capture(rig: Rig) -> None:
    stream, memory = rig.device.stream(), rig.device.memory(64)

    def drop() -> None:
        memory.close()
        rig.device.collect()
        assert "buffer.close" not in rig.log

    stream.capture(drop)
    rig.device.collect()
    assert "buffer.close" in rig.log


def test_pinned_memory_takes_and_gives_arrays(rig: Rig) -> None:
    pinned = rig.device.pinned(24)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    pinned.write(values)
    np.testing.assert_array_equal(pinned.read((2, 3), "float32"), values)


def test_a_capture_is_thread_local_and_gives_a_graph(rig: Rig) -> None:
    stream = rig.device.stream()
    rig.log.clear()
    graph = stream.capture(lambda: stream.record(rig.device.event()))
    stream.launch(graph)
    graph.close()
    graph.close()
    assert rig.log == [
        "builder.begin_building thread_local", "stream.record", "builder.end_building", "builder.complete",
        "builder.close", "builder.upload", "builder.launch", "builder.close graph",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["end_building", "complete"])
def test_a_capture_that_cuda_refuses_is_a_capture_error(rig: Rig, where: str) -> None:
    stream = rig.device.stream()
    rig.fails[where] = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    with pytest.raises(CaptureError, match="CAPTURE_INVALIDATED"):
        stream.capture(lambda: None)
    assert not stream.is_capturing
    assert rig.log[-1] == "builder.close"


def test_a_capture_that_fails_inside_is_ended(rig: Rig) -> None:
    stream = rig.device.stream()

    def fail() -> None:
        raise BackendError("no")

    with pytest.raises(CaptureError, match="no"):
        stream.capture(fail)
    assert rig.log[-2:] == ["builder.end_building", "builder.close"]


def test_a_stream_that_ended_takes_nothing(rig: Rig) -> None:
    stream, event = rig.device.stream(), rig.device.event()
    stream.end()
    for use in (lambda: stream.record(event), lambda: stream.wait(event), lambda: stream.handle):
        with pytest.raises(ClosedError, match="load it again"):
            use()
    stream.synchronize()
    rig.device.close()
    rig.device.close()


def test_each_thread_makes_the_device_current_once(rig: Rig) -> None:
    stream = rig.device.stream()
    rig.log.clear()

    def work() -> None:
        for _ in range(3):
            stream.record(rig.device.event())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert rig.log.count("device.set_current") == 1


def test_a_thread_that_uses_two_devices_changes_between_them(rig: Rig) -> None:
    other = Rig(index=1)
    streams = [rig.device.stream(), other.device.stream()]
    rig.log.clear()
    other.log.clear()

    def work() -> None:
        for stream in (*streams, *streams, streams[1]):
            stream.synchronize()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert rig.log.count("device.set_current") == other.log.count("device.set_current") == 2


def test_a_view_stays_inside(rig: Rig) -> None:
    view = rig.device.memory(64).view(16, 32)
    assert view.part(8, 8).pointer == view.pointer + 8
    for offset, nbytes in [(-1, 4), (30, 4), (0, 33)]:
        with pytest.raises(ValueError, match="are not in a view"):
            view.part(offset, nbytes)


def test_a_machine_without_cuda_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.core", None)
    with pytest.raises(BackendUnavailableError, match=r"install emo_rt\[gpu\]"):
        open_device()


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="needs cuda-core")
def test_the_real_package_has_what_is_called() -> None:
    core = importlib.import_module("cuda.core")
    graph = importlib.import_module("cuda.core.graph")
    wanted = {
        core.Device: "set_current create_stream create_event allocate device_id name compute_capability",
        core.Stream: "sync record wait close handle create_graph_builder",
        core.Event: "sync is_done close",
        core.Buffer: "copy_to fill close handle from_handle",
        graph.GraphBuilder: "begin_building end_building complete close",
        graph.Graph: "upload launch close",
        core.LegacyPinnedMemoryResource: "allocate",
    }
    called = [(cls, name) for cls, names in wanted.items() for name in names.split()]
    assert [f"{cls.__name__}.{name}" for cls, name in called if not hasattr(cls, name)] == []
