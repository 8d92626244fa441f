"""Stages that overlap: in order, bounded, with one error path, and never a thread left or stuck.

A deadlock would hang the run, so every test has a watchdog that dumps all threads and ends the process.
"""

from __future__ import annotations

import faulthandler
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_rt.runtime.pipeline import Channel, Closed, Pipeline

PATIENCE_S = 10.0
"""Far beyond what anything here takes."""


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Boom(Exception):
    """What fails in these tests."""


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for another thread to get somewhere."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def stays(condition: Callable[[], bool]) -> bool:
    """Whether it is still so after other threads had time to run on."""
    time.sleep(0.05)
    return condition()


def failing_at(index: int, error: BaseException) -> Callable[[int], int]:
    def stage(item: int) -> int:
        if item == index:
            raise error
        return item

    return stage


def double(item: int) -> int:
    return 2 * item


def add_one(item: int) -> int:
    return item + 1


# What comes out


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("stages", [(), (double,), (double, add_one, double)])
def test_results_come_in_order(depth: int, stages: tuple[Callable[[int], int], ...]) -> None:
    expected = list(range(50))
    for stage in stages:
        expected = [stage(item) for item in expected]
    with Pipeline[int](range(50), *stages, depth=depth) as results:
        assert list(results) == expected


def test_an_empty_source_gives_nothing() -> None:
    with Pipeline[int]([], double) as results:
        assert list(results) == []


def test_falsy_items_are_items() -> None:
    with Pipeline[Any]([0, None, "", []]) as results:
        assert list(results) == [0, None, "", []]


def test_after_the_end_it_stays_at_the_end() -> None:
    with Pipeline[int]([1]) as results:
        assert list(results) == [1]
        assert list(results) == []


def test_every_part_runs_in_a_thread_of_its_own_name() -> None:
    def source() -> Iterator[str]:
        yield threading.current_thread().name

    with Pipeline[list[str]](source(), lambda name: [name, threading.current_thread().name]) as results:
        assert next(results) == ["emo_rt-source", "emo_rt-stage-0"]


def test_stages_overlap() -> None:
    """Both stages wait for each other: only possible if item 1 is in the first while item 0 is in the second."""
    meeting = threading.Barrier(2, timeout=PATIENCE_S)

    def first(item: int) -> int:
        if item == 1:
            meeting.wait()
        return item

    def second(item: int) -> int:
        if item == 0:
            meeting.wait()
        return item

    with Pipeline[int](range(3), first, second, depth=1) as results:
        assert list(results) == [0, 1, 2]


@pytest.mark.parametrize("depth", [1, 3])
def test_the_source_does_not_run_ahead(depth: int) -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    with Pipeline[int](source(), double, depth=depth) as results:
        ahead = 2 * depth + 2  # two channels, and one item in the hand of each thread
        assert eventually(lambda: len(made) == ahead)
        assert stays(lambda: len(made) == ahead)
        next(results)
        assert eventually(lambda: len(made) == ahead + 1)
        assert stays(lambda: len(made) == ahead + 1)


# Errors


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("error", [Boom("here"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_error_of_a_stage_is_raised_as_it_is(place: int, error: BaseException) -> None:
    stages: list[Callable[[int], int]] = [double, double, double]
    stages[place] = failing_at(3 * 2**place, error)
    with Pipeline[int](range(10), *stages) as results:
        with pytest.raises(type(error)) as raised:
            list(results)
        assert raised.value is error


def test_an_error_of_the_source_is_raised() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise Boom

    with Pipeline[int](source(), double) as results, pytest.raises(Boom):
        list(results)


def test_an_error_keeps_its_cause() -> None:
    def stage(item: int) -> int:
        try:
            raise OSError("device lost")
        except OSError as exc:
            raise Boom("translated") from exc

    with Pipeline[int]([1], stage) as results, pytest.raises(Boom) as raised:
        next(results)
    assert isinstance(raised.value.__cause__, OSError)


def test_an_error_is_raised_each_time_one_asks() -> None:
    with Pipeline[int]([1], failing_at(1, Boom())) as results:
        for _ in range(3):
            with pytest.raises(Boom):
                next(results)


def test_a_stop_iteration_of_a_stage_is_not_taken_for_the_end() -> None:
    def stage(item: int) -> int:
        return next(iter([]))

    with Pipeline[int]([1, 2], stage) as results, pytest.raises(RuntimeError, match="StopIteration"):
        list(results)


def test_an_error_of_the_consumer_stops_everything() -> None:
    def consume() -> None:
        with Pipeline[int](iter(range(10**9)), double) as results:
            for item in results:
                if item == 6:
                    raise Boom

    with pytest.raises(Boom):
        consume()
    assert not our_threads()


def test_an_error_makes_ready_true_without_waiting() -> None:
    with Pipeline[int]([1], failing_at(1, Boom())) as results:
        assert eventually(results.ready)
        with pytest.raises(Boom):
            next(results)


def test_an_error_frees_what_the_stages_held() -> None:
    """Its traceback refers to the threads' frames: kept by the pipeline, that would be a cycle."""

    class Buffers:
        pass

    buffers = Buffers()
    kept = weakref.ref(buffers)

    def stage(item: int, held: Buffers = buffers) -> int:
        raise Boom

    gc.disable()
    try:
        with suppress(Boom), Pipeline[int]([1], stage) as results:
            list(results)
        del buffers, stage, results
        assert kept() is None
    finally:
        gc.enable()


# Closing


def test_close_is_safe_twice() -> None:
    results = Pipeline[int](range(10), double)
    results.close()
    results.close()
    assert not our_threads()


def test_a_closed_pipeline_gives_nothing_more() -> None:
    results = Pipeline[int](range(10), double)
    next(results)
    results.close()
    assert list(results) == []


@pytest.mark.parametrize("taken", [0, 1, 5, 9, 10])
def test_close_after_any_number_of_results(taken: int) -> None:
    with Pipeline[int](range(10), double, depth=1) as results:
        for _ in range(taken):
            next(results)
    assert not our_threads()


def test_close_after_the_end() -> None:
    with Pipeline[int](range(3)) as results:
        list(results)
    assert not our_threads()


def test_close_waits_for_the_stage_that_is_running() -> None:
    entered, release, left = threading.Event(), threading.Event(), threading.Event()

    def slow(item: int) -> int:
        entered.set()
        release.wait(PATIENCE_S)
        left.set()
        return item

    results = Pipeline[int]([1], slow)
    entered.wait(PATIENCE_S)
    threading.Timer(0.02, release.set).start()
    results.close()
    assert left.is_set()


def test_close_tells_long_work_that_nobody_waits() -> None:
    entered, stop = threading.Event(), threading.Event()

    def endless(item: int) -> int:
        entered.set()
        assert stop.wait(PATIENCE_S)
        raise Closed

    results = Pipeline[int]([1], endless, stop=stop)
    entered.wait(PATIENCE_S)
    results.close()
    assert not our_threads()


def test_an_error_tells_long_work_that_nobody_waits() -> None:
    stop = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert stop.wait(PATIENCE_S)
        raise Closed

    with Pipeline[int](source(), failing_at(1, Boom()), stop=stop) as results, pytest.raises(Boom):
        next(results)


def test_closing_a_generator_that_iterates_closes_the_pipeline() -> None:
    def chunks() -> Iterator[int]:
        with Pipeline[int](range(100), double) as results:
            yield from results

    generator = chunks()
    assert next(generator) == 0
    generator.close()  # type: ignore[attr-defined]
    assert not our_threads()


def test_dropping_a_generator_closes_the_pipeline() -> None:
    def chunks() -> Iterator[int]:
        with Pipeline[int](range(100), double) as results:
            yield from results

    generator = chunks()
    next(generator)
    del generator
    assert not our_threads()


@pytest.mark.parametrize("taken", [1, 100])
def test_a_generator_source_is_closed_in_its_own_thread(taken: int) -> None:
    closed_in: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed_in.append(threading.current_thread().name)

    with Pipeline[int](source(), double) as results:
        for _ in range(taken):
            next(results)
    assert closed_in == ["emo_rt-source"]


def test_close_from_a_stage_does_not_wait_for_itself() -> None:
    holder: list[Pipeline[int]] = []
    closed = threading.Event()

    def stage(item: int) -> int:
        assert eventually(lambda: bool(holder))
        holder[0].close()
        closed.set()
        return item

    with Pipeline[int](range(5), stage) as results:
        holder.append(results)
        assert list(results) == []
        assert closed.wait(PATIENCE_S)


def test_threads_that_cannot_be_started_leave_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "emo_rt-stage-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        Pipeline[int](range(100), double, double)
    assert not our_threads()


def test_a_source_that_waits_for_a_channel_is_woken_by_its_owner() -> None:
    feed: Channel[int] = Channel(2)
    with Pipeline[int](feed, double) as results:
        feed.put(1)
        assert next(results) == 2
        feed.close()
    assert not our_threads()


def test_a_channel_as_source_ends_the_results() -> None:
    feed: Channel[int] = Channel(8)
    with Pipeline[int](feed, double) as results:
        for item in range(3):
            feed.put(item)
        feed.end()
        assert list(results) == [0, 2, 4]


def test_finished_gives_what_is_there_and_does_not_wait() -> None:
    feed: Channel[int] = Channel(8)
    with Pipeline[int](feed, double, depth=3) as results:
        assert list(results.finished()) == []
        feed.put(1)
        assert eventually(results.ready)
        assert list(results.finished()) == [2]
        feed.close()


# Channels


def test_put_gives_up_after_its_time() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put(1, timeout=0)
    assert not channel.put(2, timeout=0.01)
    assert next(iter(channel)) == 1
    assert channel.put(2, timeout=0)


def test_a_blocked_put_goes_on_when_there_is_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    writer = threading.Thread(target=channel.put, args=(2,), name="emo_rt-writer")
    writer.start()
    items = iter(channel)
    assert [next(items), next(items)] == [1, 2]
    writer.join(PATIENCE_S)


@pytest.mark.parametrize("blocked", ["put", "iterate"])
def test_close_wakes_who_waits(blocked: str) -> None:
    channel: Channel[int] = Channel(1)
    woken = threading.Event()

    def wait() -> None:
        try:
            channel.put(2) if blocked == "put" else next(iter(channel))
        except Closed:
            woken.set()

    if blocked == "put":
        channel.put(1)
    thread = threading.Thread(target=wait, name="emo_rt-waiter")
    thread.start()
    channel.close()
    channel.close()
    thread.join(PATIENCE_S)
    assert woken.is_set()


def test_a_closed_channel_drops_its_items() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.close()
    with pytest.raises(Closed):
        next(iter(channel))
    with pytest.raises(Closed):
        channel.put(2)
    assert not channel.waiting()


def test_an_ended_channel_still_gives_its_items() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.end()
    assert list(channel) == [1]


# Everything at random


class Jitter:
    """Short random delays, so that threads meet in ever other orders."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            delay = self._random.choice((0, 0, 0, 1e-4, 1e-3))
        if delay:
            time.sleep(delay)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(0, 20),
    stage_count=st.integers(0, 3),
    depth=st.integers(1, 3),
    failures=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 20)), max_size=2),
    taken=st.integers(0, 25),
)
def test_no_order_of_events_blocks_or_loses_anything(
    seed: int, items: int, stage_count: int, depth: int, failures: list[tuple[int, int]], taken: int
) -> None:
    """``failures``: (stage or -1 for the source, item). The consumer leaves after ``taken`` results."""
    jitter = Jitter(seed)

    def source() -> Iterable[int]:
        for item in range(items):
            jitter()
            if (-1, item) in failures:
                raise Boom
            yield item

    def stage(number: int) -> Callable[[int], int]:
        def work(item: int) -> int:
            jitter()
            if (number, item) in failures:
                raise Boom
            return item

        return work

    got: list[int] = []
    failed = False
    with Pipeline[int](source(), *(stage(number) for number in range(stage_count)), depth=depth) as results:
        try:
            for item in results:
                jitter()
                got.append(item)
                if len(got) >= taken:
                    break
        except Boom:
            failed = True
    assert got == list(range(len(got)))
    possible = any(number < stage_count and item < items for number, item in failures)
    assert not failed or possible
    if not possible:
        assert len(got) == min(items, max(taken, 1))
    elif not failed:
        assert len(got) >= taken
    assert not our_threads()
