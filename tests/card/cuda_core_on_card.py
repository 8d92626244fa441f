"""The real cuda-core on the simulated card: run by ``test_cuda_core.py`` in a process that has the card."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, BackendError, Bundle, CaptureError, DeviceLostError
from emo_rt.device.cuda import Device, Stream, open_device
from emo_rt.model.contract import Array
from emo_rt.runtime.loaded_model import LoadedModel
from tests.card.build import Control
from tests.card.card_backend import CardBackend

PATIENCE_S = 30
GLOBAL = 0
RATE, CLIP = 16_000, 4 * 640


@pytest.fixture
def card() -> Iterator[Control]:
    control = Control()
    control.reset()
    yield control
    control.reset()


@pytest.fixture
def device(card: Control) -> Iterator[Device]:
    opened = open_device()
    yield opened
    opened.close()


def filled(device: Device, value: int, nbytes: int = 64) -> Any:
    stream, memory, pinned = device.stream(), device.memory(nbytes), device.pinned(nbytes)
    pinned.write(np.full(nbytes, value, np.uint8))
    stream.copy(memory.view(), pinned.view())
    stream.synchronize()
    return memory.view()


def content(device: Device, view: Any) -> Array:
    stream, pinned = device.stream(), device.pinned(view.nbytes)
    stream.copy(pinned.view(), view)
    stream.synchronize()
    return pinned.read((view.nbytes,), "uint8")


def test_copies_fills_and_captured_graphs_do_their_work(device: Device) -> None:
    stream, source, target = device.stream(), filled(device, 7), filled(device, 1)
    graph = stream.capture(lambda: stream.copy(target.part(0, 32), source.part(8, 32)))
    assert (content(device, target) == 1).all()
    stream.launch(graph)
    np.testing.assert_array_equal(content(device, target), [7] * 32 + [1] * 32)
    stream.clear(target)
    assert not content(device, target).any()
    graph.close()


def test_new_memory_is_zero(device: Device) -> None:
    assert not content(device, device.memory(5000).view()).any()


@pytest.mark.parametrize("when", ["at the end", "in the middle", "by this thread"])
def test_a_capture_that_is_invalidated_is_a_capture_error_and_the_stream_goes_on(
    device: Device, card: Control, when: str
) -> None:
    stream, source, target = device.stream(), filled(device, 7), filled(device, 1)

    def enqueue() -> None:
        stream.copy(target, source)
        if when == "by this thread":
            card.library.cuMemAlloc_v2(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(4))
        stream.copy(target, source)

    if when == "at the end":
        card.lose_capture()
    if when == "in the middle":
        card.lose_capture_midway(after=1)
    with pytest.raises(CaptureError, match="INVALIDATED"):
        stream.capture(enqueue)
    assert not stream.is_capturing
    stream.copy(target, source)
    assert (content(device, target) == 7).all()
    stream.launch(stream.capture(enqueue if when != "by this thread" else lambda: None))
    stream.synchronize()


def test_another_thread_may_wait_for_a_stream_that_is_captured(device: Device, card: Control) -> None:
    """Its wait ends behind the capture, which it does not spoil."""
    stream, target = device.stream(), filled(device, 1)
    with ThreadPoolExecutor(1) as pool:

        def enqueue() -> None:
            stream.clear(target)
            waiting.append(pool.submit(stream.synchronize))
            with pytest.raises(TimeoutError):
                waiting[0].result(timeout=0.1)
            stream.clear(target)

        waiting: list[Any] = []
        stream.launch(stream.capture(enqueue))
        waiting[0].result(timeout=PATIENCE_S)
    assert card.count("captures_lost") == 0


def library_captures(device: Device, stream: Stream, card: Control, meanwhile: Callable[[], None]) -> int:
    """A capture in global mode, as ONNX Runtime's. The status of its end."""
    with device.capture_lock.exclusive(), stream.lock:
        handle, graph = ctypes.c_void_p(stream.handle), ctypes.c_void_p()
        assert card.library.cuStreamBeginCapture_v2(handle, GLOBAL) == 0
        meanwhile()
        status = int(card.library.cuStreamEndCapture(handle, ctypes.byref(graph)))
        if graph:
            card.library.cuGraphDestroy(graph)
        return status


ALLOCATIONS: dict[str, Callable[[Device], object]] = {
    "device memory": lambda device: device.memory(64).close(),
    "pinned memory": lambda device: device.pinned(64).close(),
    "what nobody needs": lambda device: device.collect(),
    "free memory": lambda device: device.used_bytes(),
    "a wait": lambda device: device.synchronize(),
}


@pytest.mark.parametrize("what", ALLOCATIONS)
def test_nobody_allocates_during_a_capture_of_a_library(device: Device, card: Control, what: str) -> None:
    stream = device.stream()
    device.pinned(64).close()
    with ThreadPoolExecutor(1) as pool:
        jobs: list[Any] = []

        def meanwhile() -> None:
            jobs.append(pool.submit(ALLOCATIONS[what], device))
            with pytest.raises(TimeoutError):
                jobs[0].result(timeout=0.1)

        assert library_captures(device, stream, card, meanwhile) == 0
        jobs[0].result(timeout=PATIENCE_S)
    assert card.count("captures_lost") == 0


def test_captures_and_allocations_of_many_threads(device: Device, card: Control) -> None:
    rounds = 60

    def capture(_: int) -> None:
        stream, target = device.stream(), device.memory(64).view()
        for _ in range(rounds):
            assert library_captures(device, stream, card, lambda: None) == 0
            graph = stream.capture(lambda: stream.clear(target))
            stream.launch(graph)
            stream.synchronize()
            graph.close()

    def allocate(_: int) -> None:
        for _ in range(rounds):
            for work in ALLOCATIONS.values():
                work(device)

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(work, number) for work in (capture, allocate) for number in range(3)]
        for job in jobs:
            job.result(timeout=PATIENCE_S)
    assert card.count("captures_lost") == 0
    assert card.count("captures") == 6 * rounds


def test_memory_that_runs_out_is_an_error_and_the_next_is_had(device: Device, card: Control) -> None:
    card.fail_allocation()
    with pytest.raises(BackendError, match=r"allocate 0\.1 MB.*OUT_OF_MEMORY"):
        device.memory(100_000)
    device.memory(100_000)


def test_an_illegal_access_ends_the_device(device: Device, card: Control) -> None:
    stream = device.stream()
    card.fail_for_good(700)
    for use in (stream.synchronize, lambda: device.memory(4), lambda: stream.capture(lambda: None)):
        with pytest.raises(DeviceLostError, match="ILLEGAL_ADDRESS"):
            use()
    card.reset()


def test_all_memory_comes_back(card: Control) -> None:
    before = card.count("device_bytes"), card.count("pinned_bytes")
    device = open_device()
    kept = [device.memory(1000), device.pinned(1000)]
    assert card.count("device_bytes") == before[0] + 1000
    for memory in kept:
        memory.close()
    device.close()
    assert (card.count("device_bytes"), card.count("pinned_bytes")) == before


# Two devices


def test_a_thread_may_use_two_devices_in_turns(card: Control) -> None:
    """CUDA refuses an event of one device in a stream of the other, and memory comes from whichever is current."""
    devices = [open_device(index) for index in (0, 1)]
    assert [device.index for device in devices] == [0, 1]
    streams = [device.stream() for device in devices]
    for number in range(3):
        for device, stream in zip(devices, streams, strict=True):
            assert (content(device, filled(device, number)) == number).all()
            event = device.event()
            stream.record(event)
            stream.synchronize()
            assert event.is_done()
    for device in devices:
        device.close()


def test_models_on_two_devices(tiny_bundle: Bundle, tiny_animator: Animator, card: Control) -> None:
    """Each with its own runtime, from one thread: the frames are those of the CPU."""
    with (
        Animator(LoadedModel(tiny_bundle, CardBackend(open_device(0)))) as first,
        Animator(LoadedModel(tiny_bundle, CardBackend(open_device(1)))) as second,
    ):
        assert (first.device, second.device) == ("cuda", "cuda:1")
        expected = frames(tiny_animator)
        for animator in (second, first, second):
            np.testing.assert_array_equal(frames(animator), expected)
    assert card.count("captures_lost") == 0


# Whole animations


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def frames(animator: Animator, clips: int = 3, seed: int = 0) -> Array:
    sound = 0.1 * np.random.default_rng(1).standard_normal(clips * CLIP, np.float32)
    avatar = animator.prepare(picture(seed), face_box="full")
    return animator.animate(avatar, sound, sample_rate=RATE, steps=3, seed=seed).numpy()


@pytest.fixture
def on_card(card: Control, tiny_bundle: Bundle) -> Iterator[Animator]:
    with Animator(LoadedModel(tiny_bundle, CardBackend(open_device()))) as animator:
        yield animator


def test_an_animation_is_that_of_the_cpu_in_one_launch_a_clip(
    on_card: Animator, tiny_animator: Animator, card: Control
) -> None:
    np.testing.assert_array_equal(frames(on_card), frames(tiny_animator))
    assert card.count("graph_launches") == 3
    assert card.count("captures_lost") == 0


@pytest.mark.parametrize("midway", [False, True])
def test_a_lost_capture_falls_back_to_steps(
    on_card: Animator, tiny_animator: Animator, card: Control, midway: bool
) -> None:
    card.lose_capture_midway(after=3) if midway else card.lose_capture()
    np.testing.assert_array_equal(frames(on_card), frames(tiny_animator))
    assert (card.count("graph_launches"), card.count("captures_lost")) == (0, 1)


def test_runs_and_pictures_side_by_side(on_card: Animator, tiny_animator: Animator, card: Control) -> None:
    found: dict[int, Array] = {}

    def talk(who: int) -> None:
        found[who] = frames(on_card, seed=who)

    threads = [threading.Thread(target=talk, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        on_card.prepare(picture(), face_box="full").close()
    for thread in threads:
        thread.join()
    for who in range(3):
        np.testing.assert_array_equal(found[who], frames(tiny_animator, seed=who))
    assert card.count("captures_lost") == 0


def test_an_animator_gives_all_memory_back(card: Control, tiny_bundle: Bundle) -> None:
    before = card.count("device_bytes"), card.count("pinned_bytes")
    with Animator(LoadedModel(tiny_bundle, CardBackend(open_device()))) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        animator.animate(avatar, np.zeros(CLIP, np.float32), sample_rate=RATE, steps=2).numpy()
    assert (card.count("device_bytes"), card.count("pinned_bytes")) == before
    del avatar
