"""The stand-in catches what a GPU would not: each rule is broken once, and kept once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import RuleBroken, StandInDevice, data

from emo_rt.device.cuda.memory import View
from emo_rt.errors import BackendError, CaptureError, DeviceLostError


@pytest.fixture(params=range(3))
def device(request: pytest.FixtureRequest) -> StandInDevice:
    return StandInDevice(seed=request.param)


def filled(device: StandInDevice, value: int, nbytes: int = 64) -> View:
    view = device.memory(nbytes).view()
    data(view)[:] = value
    return view


def test_nothing_runs_before_the_host_waits(device: StandInDevice) -> None:
    stream, source, target = device.stream(), filled(device, 7), filled(device, 0)
    stream.copy(target, source)
    assert not data(target).any()
    stream.synchronize()
    assert (data(target) == 7).all()


def test_streams_run_in_other_orders_than_they_were_filled() -> None:
    orders = set()
    for seed in range(20):
        device = StandInDevice(seed)
        streams = [device.stream() for _ in range(2)]
        for stream in streams:
            for _ in range(2):
                stream.enqueue("work", lambda: None)
        device.synchronize()
        orders.add(tuple(number for number, _ in device.ran))
    assert len(orders) >= 3


def ordered_by_event(device: StandInDevice, wait: bool, second: str) -> None:
    one, other, shared, mine = device.stream(), device.stream(), filled(device, 1), filled(device, 2)
    event = device.event()
    one.copy(shared, mine) if second == "read" else one.copy(mine, shared)
    one.record(event)
    if wait:
        other.wait(event)
    target = filled(device, 3)
    other.copy(target, shared) if second == "read" else other.copy(shared, target)
    device.synchronize()


@pytest.mark.parametrize("second", ["read", "write"])
def test_what_another_stream_still_uses_is_touched_behind_an_event_only(device: StandInDevice, second: str) -> None:
    ordered_by_event(device, True, second)
    with pytest.raises(RuleBroken, match="does not wait for it"):
        ordered_by_event(device, False, second)
    assert len(device.broken) == 1


def test_two_streams_may_read_the_same(device: StandInDevice) -> None:
    shared = filled(device, 1)
    for stream in (device.stream(), device.stream()):
        stream.copy(filled(device, 0), shared)
    device.synchronize()


def test_two_streams_may_use_parts_that_do_not_overlap(device: StandInDevice) -> None:
    shared = filled(device, 1)
    for index in range(2):
        device.stream().copy(shared.part(32 * index, 32), filled(device, index, 32))
    with pytest.raises(RuleBroken):
        device.stream().copy(shared.part(31, 2), filled(device, 5, 2))


def test_an_event_marks_what_was_there_when_it_was_recorded(device: StandInDevice) -> None:
    one, other, shared = device.stream(), device.stream(), filled(device, 1)
    event = device.event()
    one.record(event)
    one.copy(shared, filled(device, 2))
    other.wait(event)
    with pytest.raises(RuleBroken):
        other.copy(filled(device, 0), shared)


def test_a_host_that_waited_orders_what_it_enqueues_then(device: StandInDevice) -> None:
    one, other, shared = device.stream(), device.stream(), filled(device, 1)
    one.copy(shared, filled(device, 2))
    one.synchronize()
    other.copy(filled(device, 0), shared)


def test_a_host_thread_that_waits_orders_nothing_for_another(device: StandInDevice) -> None:
    one, other, shared = device.stream(), device.stream(), filled(device, 1)
    go, caught = threading.Event(), list[BaseException]()

    def second() -> None:
        other.enqueue("first sight of this thread", lambda: None)
        ready.set()
        go.wait(10)
        try:
            other.copy(filled(device, 0), shared)
        except RuleBroken as exc:
            caught.append(exc)

    ready = threading.Event()
    thread = threading.Thread(target=second)
    thread.start()
    ready.wait(10)
    one.copy(shared, filled(device, 2))
    one.synchronize()
    go.set()
    thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize("wait", [True, False])
def test_pinned_memory_is_read_once_the_copy_has_landed(device: StandInDevice, wait: bool) -> None:
    stream, pinned, event = device.stream(), device.pinned(64), device.event()
    stream.copy(pinned.view(), filled(device, 9))
    stream.record(event)
    if wait:
        event.synchronize()
        assert (pinned.read((64,), "uint8") == 9).all()
        return
    with pytest.raises(RuleBroken, match="the host reads what stream 0 wrote"):
        pinned.read((64,), "uint8")


def test_pinned_memory_is_written_once_the_copy_has_left(device: StandInDevice) -> None:
    stream, pinned = device.stream(), device.pinned(64)
    stream.copy(filled(device, 0), pinned.view())
    with pytest.raises(RuleBroken, match="the host writes what stream 0 reads"):
        pinned.write(np.zeros(64, np.uint8))
    stream.synchronize()
    pinned.write(np.zeros(64, np.uint8))


FORBIDDEN: dict[str, Callable[[StandInDevice, Any], object]] = {
    "allocated": lambda device, stream: device.memory(4),
    "allocated pinned": lambda device, stream: device.pinned(4),
    "waited for a stream": lambda device, stream: stream.synchronize(),
    "waited for another stream": lambda device, stream: device.stream().synchronize(),
    "event was recorded": lambda device, stream: stream.record(device.event()),
    "event was waited for": lambda device, stream: stream.wait(device.event()),
    "graph was launched": lambda device, stream: stream.launch(object()),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_capture_forbids(device: StandInDevice, what: str) -> None:
    stream = device.stream()
    with pytest.raises(RuleBroken, match="captur"):
        stream.capture(lambda: FORBIDDEN[what](device, stream))
    assert not stream.is_capturing


def test_another_thread_may_wait_and_allocate_during_a_capture(device: StandInDevice) -> None:
    stream, other = device.stream(), device.stream()

    def meanwhile() -> None:
        device.memory(4)
        other.synchronize()

    def enqueue() -> None:
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()

    stream.capture(enqueue)
    assert device.broken == []


def test_captured_work_runs_at_each_replay_and_not_before(device: StandInDevice) -> None:
    stream, counter = device.stream(), filled(device, 0)
    graph = stream.capture(lambda: stream.enqueue("add", lambda: np.add(data(counter), 1, out=data(counter))))
    stream.synchronize()
    assert data(counter)[0] == 0
    for _ in range(3):
        stream.launch(graph)
    stream.synchronize()
    assert data(counter)[0] == 3
    assert device.launches == [1, 1, 1]


def test_a_replay_is_checked_like_the_work_itself(device: StandInDevice) -> None:
    stream, other, shared, source = device.stream(), device.stream(), filled(device, 0), filled(device, 2)
    graph = stream.capture(lambda: stream.copy(shared, source))
    other.copy(filled(device, 0), shared)
    with pytest.raises(RuleBroken, match="copy writes what stream 1 reads"):
        stream.launch(graph)


def test_memory_that_was_given_back_is_not_used(device: StandInDevice) -> None:
    stream, memory = device.stream(), device.memory(64)
    graph = stream.capture(lambda: stream.clear(memory.view()))
    assert device.used_bytes() == 64
    view = memory.view()
    memory.close()
    memory.close()
    assert device.used_bytes() == 0
    for use in (lambda: stream.clear(view), lambda: stream.launch(graph)):
        with pytest.raises(RuleBroken, match="given back"):
            use()


def test_a_capture_that_fails_leaves_a_usable_stream(device: StandInDevice) -> None:
    stream, target = device.stream(), filled(device, 3)

    def fail() -> None:
        stream.clear(target)
        raise BackendError("no")

    with pytest.raises(CaptureError, match="no"):
        stream.capture(fail)
    stream.clear(target)
    stream.synchronize()
    assert not data(target).any()


def test_a_lost_device_refuses_everything(device: StandInDevice) -> None:
    stream = device.stream()

    def crash() -> None:
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an address is illegal")

    stream.enqueue("crash", crash)
    with pytest.raises(DeviceLostError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS \(700\)"):
        stream.synchronize()
    for use in (stream.synchronize, lambda: stream.enqueue("more", lambda: None), lambda: device.memory(4)):
        with pytest.raises(DeviceLostError, match="load it again"):
            use()
