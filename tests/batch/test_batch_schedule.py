"""Which row runs next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emo_rt.batch.schedule import Schedule
from emo_rt.batch.task import Task


def task(key: str, portrait: str = "p") -> Task:
    return Task(key, {}, portrait, f"{key}.mp4")


def filled(*names: str) -> Schedule:
    """``"a1"``: row 1 of portrait a."""
    schedule = Schedule()
    for name in names:
        schedule.add(task(name, name[0]))
    return schedule


def taken(schedule: Schedule, worker: object = "w", in_flight: int = 0, now: float = 0) -> str | None:
    found = schedule.take(worker, now, in_flight)
    return found[0].key if found else None


def test_rows_of_one_portrait_follow_each_other() -> None:
    schedule = filled("a1", "b1", "a2", "b2")
    assert [taken(schedule) for _ in range(5)] == ["a1", "a2", "b1", "b2", None]


def test_two_workers_have_two_portraits() -> None:
    schedule = filled("a1", "b1", "a2", "b2")
    assert [taken(schedule, worker) for worker in "xyxy"] == ["a1", "b1", "a2", "b2"]


def test_who_has_nothing_left_helps_where_most_is_left() -> None:
    schedule = filled("a1", "b1", "b2", "b3", "c1", "c2")
    assert [taken(schedule, worker) for worker in "xyzx"] == ["a1", "b1", "c1", "b2"]


def test_a_suspect_waits_until_nothing_runs_and_then_all_wait_for_it() -> None:
    schedule = filled("a1")
    schedule.add(task("s1", "s"), alone=True)
    assert taken(schedule, in_flight=1) is None
    assert schedule.take("w", 0, 0) == (task("s1", "s"), True)
    assert taken(schedule) == "a1"


def test_a_row_comes_back_when_its_time_has_come() -> None:
    schedule = Schedule()
    schedule.later(task("a1"), 5.0)
    assert (schedule.next_wait(2.0), len(schedule)) == (3.0, 1)
    assert taken(schedule, now=4.9) is None
    assert taken(schedule, now=5.0) == "a1"
    assert (schedule.next_wait(5.0), len(schedule)) == (None, 0)


def test_what_a_lost_worker_had_prepared_is_free_again() -> None:
    schedule = filled("a1", "a2", "b1")
    assert taken(schedule, "x") == "a1"
    schedule.leave("x")
    assert [taken(schedule, "y") for _ in range(2)] == ["a2", "b1"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.lists(st.integers(0, 2)))
def test_every_row_is_given_out_once(rows: list[tuple[str, bool]], workers: list[int]) -> None:
    schedule = Schedule()
    for number, (portrait, alone) in enumerate(rows):
        schedule.add(task(f"{portrait}{number}", portrait), alone=alone)
    order = iter([*workers, *[0] * len(rows)])
    found = [taken(schedule, next(order)) for _ in rows]
    assert sorted(map(str, found)) == sorted(f"{portrait}{number}" for number, (portrait, _) in enumerate(rows))
    assert len(schedule) == 0
