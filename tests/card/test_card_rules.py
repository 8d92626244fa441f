"""The simulated card keeps CUDA's rules: each is broken here once, and the answer is the one that CUDA documents."""

from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.card.build import Control

OUT_OF_MEMORY, INVALID_VALUE, NO_CONTEXT, INVALID_HANDLE, ILLEGAL_STATE = 2, 1, 201, 400, 401
ILLEGAL_ADDRESS, UNSUPPORTED, INVALIDATED, ISOLATION, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = (
    700, 900, 901, 905, 906, 907, 908
)  # fmt: skip
GLOBAL, THREAD_LOCAL, RELAXED = range(3)
Pointer = ctypes.c_void_p


class Card(Control):
    """A card of its own for each test, with a context that is current here. Calls give (status, value made)."""

    def enter(self) -> None:
        """Make the context current to this thread."""
        context = Pointer()
        assert self.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert self.library.cuCtxSetCurrent(context) == 0

    def call(self, name: str, *arguments: Any) -> int:
        """The status of a call."""
        passed = [Pointer(one) if isinstance(one, int) and one > 2**31 else one for one in arguments]
        return int(getattr(self.library, name)(*passed))

    def make(self, name: str, *arguments: Any) -> tuple[int, int]:
        """Status and result of a call that gives something by its first argument."""
        made = Pointer()
        return self.call(name, ctypes.byref(made), *arguments), made.value or 0

    def stream(self, flags: int = 1) -> int:
        """A stream; non-blocking by default, as ours are."""
        status, stream = self.make("cuStreamCreateWithPriority", flags, 0)
        assert status == 0
        return stream

    def memory(self, nbytes: int = 64) -> int:
        """Device memory."""
        status, address = self.make("cuMemAlloc_v2", ctypes.c_size_t(nbytes))
        assert status == 0
        return address

    def event(self, flags: int = 0) -> int:
        """An event."""
        return self.make("cuEventCreate", flags)[1]

    def fill(self, address: int, value: int, nbytes: int, stream: int) -> int:
        """Enqueue a fill."""
        return self.call("cuMemsetD8Async", address, ctypes.c_ubyte(value), ctypes.c_size_t(nbytes), stream)

    def begin(self, stream: int, mode: int = GLOBAL) -> int:
        """Begin a capture."""
        return self.call("cuStreamBeginCapture_v2", stream, mode)

    def end(self, stream: int) -> tuple[int, int]:
        """End a capture: status, graph."""
        graph = Pointer()
        return self.call("cuStreamEndCapture", stream, ctypes.byref(graph)), graph.value or 0

    def elsewhere(self, work: Callable[[], Any]) -> Any:
        """Do something in another thread."""
        found: list[Any] = []

        def run() -> None:
            self.enter()
            found.append(work())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]


@pytest.fixture
def card(card_folder: Path, tmp_path: Path) -> Card:
    own = Card(shutil.copy(card_folder / "libcard.so", tmp_path))
    own.enter()
    return own


def content(address: int, nbytes: int) -> bytes:
    return ctypes.string_at(address, nbytes)


def test_a_call_needs_a_context(card: Card) -> None:
    assert card.call("cuCtxSetCurrent", None) == 0
    assert card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0] == NO_CONTEXT


def test_a_context_is_current_to_one_thread(card: Card) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(card.make("cuStreamCreate", 1)[0]))
    thread.start()
    thread.join()
    assert found == [NO_CONTEXT]


def test_new_memory_is_not_zero_and_counts(card: Card) -> None:
    address = card.memory(64)
    assert any(content(address, 64))
    assert card.count("device_bytes") == 64
    assert card.call("cuMemFree_v2", address) == 0
    assert card.count("device_bytes") == 0
    assert card.call("cuMemFree_v2", address) == INVALID_VALUE


def test_work_is_counted_by_name_as_it_is_enqueued(card: Card) -> None:
    address, stream = card.memory(), card.stream()
    card.reset()
    for value in (1, 2):
        assert card.fill(address, value, 8, stream) == 0
    assert card.call("cuMemcpyAsync", address, address, ctypes.c_size_t(8), stream) == 0
    assert card.launches() == {"fill": 2, "copy": 1}
    assert card.call("card_launch_kernel", stream, ctypes.c_char_p(b"some_kernel")) == 0
    assert card.launches()["some_kernel"] == 1
    card.reset()
    assert card.launches() == {}


def test_memory_ends(card: Card) -> None:
    card.set_memory(100)
    address = card.memory(64)
    assert card.make("cuMemAlloc_v2", ctypes.c_size_t(64))[0] == OUT_OF_MEMORY
    card.call("cuMemFree_v2", address)
    card.memory(64)


def test_an_allocation_fails_on_demand(card: Card) -> None:
    card.fail_allocation(after=1)
    card.memory()
    assert card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0] == OUT_OF_MEMORY
    card.memory()


@pytest.mark.parametrize("where", ["beyond", "freed"])
def test_an_illegal_access_is_for_good(card: Card, where: str) -> None:
    stream, address = card.stream(), card.memory(64)
    if where == "freed":
        card.call("cuMemFree_v2", address)
    assert card.fill(address, 1, 64 + (where == "beyond"), stream) == ILLEGAL_ADDRESS
    assert card.call("cuStreamSynchronize", stream) == ILLEGAL_ADDRESS
    assert card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0] == ILLEGAL_ADDRESS


def test_captured_work_runs_at_each_launch(card: Card) -> None:
    stream, address = card.stream(), card.memory(4)
    assert card.fill(address, 0, 4, stream) == 0
    assert card.begin(stream) == 0
    card.fill(address, 7, 4, stream)
    status, graph = card.end(stream)
    assert (status, content(address, 4)) == (0, bytes(4))
    executable = card.make("cuGraphInstantiateWithFlags", graph, ctypes.c_ulonglong(0))[1]
    for _ in range(2):
        card.fill(address, 0, 4, stream)
        assert card.call("cuGraphLaunch", executable, stream) == 0
        assert content(address, 4) == bytes([7] * 4)


def unsafe_calls(card: Card) -> dict[str, Callable[[], int]]:
    address, pinned = card.memory(), card.make("cuMemAllocHost_v2", ctypes.c_size_t(64))[1]
    return {
        "allocate": lambda: card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0],
        "free": lambda: card.call("cuMemFree_v2", address),
        "pin": lambda: card.make("cuMemAllocHost_v2", ctypes.c_size_t(4))[0],
        "unpin": lambda: card.call("cuMemFreeHost", pinned),
        "copy and wait": lambda: card.call("cuMemcpy", address, pinned, ctypes.c_size_t(4)),
    }


UNSAFE = ("allocate", "free", "pin", "unpin", "copy and wait")


@pytest.mark.parametrize("what", UNSAFE)
@pytest.mark.parametrize(
    ("mode", "by_other", "refused"),
    [
        (GLOBAL, False, True),
        (GLOBAL, True, True),
        (THREAD_LOCAL, False, True),
        (THREAD_LOCAL, True, False),
        (RELAXED, False, False),
        (RELAXED, True, False),
    ],
)
def test_who_may_make_an_unsafe_call_during_a_capture(
    card: Card, what: str, mode: int, by_other: bool, refused: bool
) -> None:
    """cuThreadExchangeStreamCaptureMode, and 'Invalidation' in the programming guide."""
    work, stream = unsafe_calls(card)[what], card.stream()
    assert card.begin(stream, mode) == 0
    status = card.elsewhere(work) if by_other else work()
    assert status == (UNSUPPORTED if refused else 0)
    status, graph = card.end(stream)
    assert (status, graph != 0) == ((INVALIDATED, False) if refused else (0, True))
    assert card.count("captures_lost") == card.count("unsafe_calls") == refused


def test_a_relaxed_thread_is_not_bound_by_anothers_global_capture(card: Card) -> None:
    stream = card.stream()

    def relaxed() -> int:
        card.call("cuThreadExchangeStreamCaptureMode", ctypes.byref(ctypes.c_int(RELAXED)))
        return card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0]

    card.begin(stream, GLOBAL)
    assert card.elsewhere(relaxed) == 0
    assert card.end(stream)[0] == 0


@pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuStreamQuery"])
@pytest.mark.parametrize("by_other", [False, True])
def test_nobody_waits_for_a_stream_that_is_captured(card: Card, call: str, by_other: bool) -> None:
    stream = card.stream()
    card.begin(stream, THREAD_LOCAL)
    assert (card.elsewhere if by_other else lambda work: work())(lambda: card.call(call, stream)) == UNSUPPORTED
    assert card.end(stream)[0] == INVALIDATED


def test_another_stream_may_be_waited_for(card: Card) -> None:
    stream, other = card.stream(), card.stream()
    card.begin(stream, GLOBAL)
    assert card.call("cuStreamSynchronize", other) == 0
    assert card.end(stream)[0] == 0


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL, RELAXED])
def test_nobody_waits_for_the_device_during_a_capture(card: Card, mode: int) -> None:
    stream = card.stream()
    card.begin(stream, mode)
    assert card.elsewhere(lambda: card.call("cuCtxSynchronize")) == UNSUPPORTED
    assert card.end(stream)[0] == INVALIDATED


@pytest.mark.parametrize(("flags", "status"), [(0, IMPLICIT), (1, 0)])
def test_the_legacy_stream_is_used_beside_captures_of_non_blocking_streams_only(
    card: Card, flags: int, status: int
) -> None:
    stream, address = card.stream(flags), card.memory()
    card.begin(stream)
    assert card.fill(address, 1, 4, 0) == status
    assert card.end(stream)[0] == (INVALIDATED if status else 0)


def test_an_invalid_capture_takes_no_more_and_must_be_ended(card: Card) -> None:
    stream, address = card.stream(), card.memory()
    card.begin(stream)
    assert card.make("cuMemAlloc_v2", ctypes.c_size_t(4))[0] == UNSUPPORTED
    assert card.fill(address, 1, 4, stream) == INVALIDATED
    assert card.call("cuEventRecord", card.event(), stream) == INVALIDATED
    assert card.begin(stream) == ILLEGAL_STATE
    assert card.end(stream) == (INVALIDATED, 0)
    assert card.end(stream)[0] == ILLEGAL_STATE
    assert card.fill(address, 1, 4, stream) == 0


def test_a_capture_is_ended_by_its_own_thread(card: Card) -> None:
    stream = card.stream()
    card.begin(stream, THREAD_LOCAL)
    assert card.elsewhere(lambda: card.end(stream)[0]) == WRONG_THREAD
    assert card.end(stream)[0] == INVALIDATED


def test_a_captured_event_is_not_waited_for(card: Card) -> None:
    stream, event = card.stream(), card.event()
    card.begin(stream)
    assert card.call("cuEventRecord", event, stream) == 0
    assert card.call("cuEventSynchronize", event) == CAPTURED_EVENT
    assert card.call("cuEventQuery", event) == CAPTURED_EVENT
    assert card.end(stream)[0] == 0
    assert card.call("cuEventRecord", event, stream) == 0
    assert card.call("cuEventSynchronize", event) == 0


def test_a_capture_depends_on_nothing_outside(card: Card) -> None:
    stream, other, event = card.stream(), card.stream(), card.event()
    card.begin(stream)
    assert card.call("cuStreamWaitEvent", stream, event, 0) == 0  # never recorded
    card.call("cuEventRecord", event, other)
    assert card.call("cuStreamWaitEvent", stream, event, 0) == ISOLATION
    assert card.end(stream)[0] == INVALIDATED


def test_a_capture_is_lost_on_demand(card: Card) -> None:
    stream = card.stream()
    card.lose_capture(after=1)
    for status in (0, INVALIDATED, 0):
        card.begin(stream)
        assert card.end(stream)[0] == status


def test_a_capture_is_lost_in_its_middle_on_demand(card: Card) -> None:
    stream, address = card.stream(), card.memory()
    card.lose_capture_midway(after=1)
    card.begin(stream)
    assert [card.fill(address, 1, 4, stream) for _ in range(3)] == [0, INVALIDATED, INVALIDATED]
    assert card.end(stream)[0] == INVALIDATED


def test_time_is_between_two_timed_events_that_were_recorded(card: Card) -> None:
    stream, start, end, untimed = card.stream(), card.event(), card.event(), card.event(flags=2)
    for event in (start, untimed):
        card.call("cuEventRecord", event, stream)
    milliseconds = ctypes.c_float()
    for other in (end, untimed):
        assert card.call("cuEventElapsedTime_v2", ctypes.byref(milliseconds), start, other) == INVALID_HANDLE
    card.call("cuEventRecord", end, stream)
    assert card.call("cuEventElapsedTime_v2", ctypes.byref(milliseconds), start, end) == 0
    assert milliseconds.value >= 0
