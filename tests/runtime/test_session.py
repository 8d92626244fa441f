"""Sessions on one device: each gets the frames that it would get alone, in fair turns, and disturbs no other."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    Animator,
    AudioError,
    Avatar,
    Box,
    Bundle,
    Cancelled,
    ClosedError,
    ConfigError,
    InputError,
    OutputError,
    Progress,
    Runtime,
    Session,
)
from emo_rt.export.presets import preset
from emo_rt.model.contract import Array
from emo_rt.runtime import clip_maker
from emo_rt.runtime.session import session_bytes

RATE, FRAME = 16_000, 640
CLIP = 4 * FRAME
PATIENCE_S = 60.0


def voice(clips: int, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(clips * CLIP, np.float32)


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def emo_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(picture(), face_box="full")


def say(session: Session, sound: Array) -> None:
    session.push(sound)
    session.end()


def frames(session: Session) -> Array:
    return np.concatenate([chunk.frames for chunk in session])


def alone(animator: Animator, avatar: Avatar, sound: Array, **options: Any) -> Array:
    return animator.animate(avatar, sound, sample_rate=RATE, **{"steps": 2, **options}).numpy()


class Gate:
    """Holds the device until it is opened, so that several sessions are ready at once."""

    def __init__(self, animator: Animator, avatar: Avatar) -> None:
        self._reached, self._open = threading.Event(), threading.Event()
        self._session = animator.open_session(avatar, priority=1000, steps=1, progress=self._wait)

    def _wait(self, _: Progress) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE_S)

    def __enter__(self) -> Gate:
        say(self._session, voice(1)[:FRAME])
        assert self._reached.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._session.close()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast a test takes chunks must not decide whose turn it is."""
    monkeypatch.setattr(clip_maker, "CLIPS_UNDER_WAY", 1000)


# Many at once


@pytest.mark.usefixtures("unhurried")
def test_three_of_fifty_open_sessions_talk(tiny_animator: Animator, avatar: Avatar) -> None:
    """Frames as alone bit for bit, equal shares at any time, no thread and no memory for those who are silent."""
    other = tiny_animator.prepare(picture(9), face_box="full")
    jobs = [(avatar, voice(10, 1), 1), (other, voice(10, 2), 2), (avatar, voice(10, 3), 3)]
    expected = [alone(tiny_animator, who, sound, seed=seed) for who, sound, seed in jobs]
    turns: list[int] = []

    def note(seed: int) -> Callable[[Progress], None]:
        return lambda progress: turns.append(seed) if progress.step == 1 else None

    idle = [tiny_animator.open_session(avatar) for _ in range(47)]
    talking = [tiny_animator.open_session(who, steps=2, seed=seed, progress=note(seed)) for who, _, seed in jobs]
    assert emo_threads() == ["emo_rt-schedule"]
    with Gate(tiny_animator, avatar):
        for session, (_, sound, _) in zip(talking, jobs, strict=True):
            say(session, sound)
    for session, wanted in zip(talking, expected, strict=True):
        np.testing.assert_array_equal(frames(session), wanted)
    assert sum(session.nbytes for session in idle) == 0
    for end in range(30):
        counts = [turns[:end].count(seed) for seed in (1, 2, 3)]
        assert max(counts) - min(counts) <= 1
    for session in (*idle, *talking):
        session.close()
    assert not emo_threads()
    assert tiny_animator.memory_stats()["runs"] == tiny_animator.memory_stats()["kept"] == 0


def test_a_failing_session_disturbs_no_other(tiny_animator: Animator, avatar: Avatar) -> None:
    sound = voice(4)
    expected = alone(tiny_animator, avatar, sound)

    def noise(index: int) -> Array:
        raise ZeroDivisionError("mine")

    def cancel(progress: Progress) -> None:
        broken[1].cancel()

    good = [tiny_animator.open_session(avatar, steps=2) for _ in range(2)]
    broken = [tiny_animator.open_session(avatar, noise=noise), tiny_animator.open_session(avatar, progress=cancel)]
    broken.append(tiny_animator.open_session(avatar, progress=lambda _: 1 / 0))
    for session in (good[0], *broken, good[1]):
        say(session, sound)
    for session, error in zip(broken, (ZeroDivisionError, Cancelled, ZeroDivisionError), strict=True):
        for _ in range(2):
            with pytest.raises(error):
                next(session)
    for session in good:
        np.testing.assert_array_equal(frames(session), expected)
    for session in (*good, *broken):
        session.close()


# Whose turn it is


def recorder(seen: list[tuple[str, int, int]], name: str) -> Callable[[Progress], None]:
    return lambda progress: seen.append((name, progress.clip, progress.step))


def test_a_higher_priority_interrupts_a_clip_between_two_steps(tiny_animator: Animator, avatar: Avatar) -> None:
    """And the frames of both are those that they would have had alone."""
    sound = voice(2)
    expected = alone(tiny_animator, avatar, sound, steps=5), alone(tiny_animator, avatar, sound[:CLIP], seed=8)
    seen: list[tuple[str, int, int]] = []
    urgent = tiny_animator.open_session(avatar, priority=1, steps=2, seed=8, progress=recorder(seen, "urgent"))

    def progress(at: Progress) -> None:
        seen.append(("long", at.clip, at.step))
        if (at.clip, at.step) == (0, 3):
            say(urgent, sound[:CLIP])

    with urgent, tiny_animator.open_session(avatar, steps=5, progress=progress) as long:
        say(long, sound)
        np.testing.assert_array_equal(frames(long), expected[0])
        np.testing.assert_array_equal(frames(urgent), expected[1])
    before, between, after = seen[:3], seen[3:5], seen[5:]
    assert before == [("long", 0, step) for step in (1, 2, 3)]
    assert between == [("urgent", 0, 1), ("urgent", 0, 2)]
    assert after == [("long", 0, 4), ("long", 0, 5), *(("long", 1, step) for step in range(1, 6))]


@pytest.mark.usefixtures("unhurried")
def test_among_equals_a_begun_clip_is_finished_and_the_nearest_deadline_comes_next(
    tiny_animator: Animator, avatar: Avatar
) -> None:
    seen: list[tuple[str, int, int]] = []
    deadlines = {"none": None, "late": 1e6, "soon": 1.0}
    opened = [
        tiny_animator.open_session(avatar, steps=2, deadline=deadline, progress=recorder(seen, name))
        for name, deadline in deadlines.items()
    ]
    with Gate(tiny_animator, avatar):
        for session in opened:
            say(session, voice(2))
    for session in opened:
        list(session)
        session.close()
    assert seen == [(name, clip, step) for name in ("soon", "late", "none") for clip in (0, 1) for step in (1, 2)]


@pytest.mark.usefixtures("unhurried")
def test_priority_comes_before_deadline(tiny_animator: Animator, avatar: Avatar) -> None:
    seen: list[tuple[str, int, int]] = []
    low = tiny_animator.open_session(avatar, steps=1, deadline=1.0, progress=recorder(seen, "low"))
    high = tiny_animator.open_session(avatar, steps=1, priority=2, progress=recorder(seen, "high"))
    with low, high:
        with Gate(tiny_animator, avatar):
            say(low, voice(1))
            say(high, voice(2))
        list(low), list(high)
    assert [name for name, _, _ in seen] == ["high", "high", "low"]


def test_a_portrait_is_prepared_between_the_clips_of_those_who_talk(tiny_animator: Animator, avatar: Avatar) -> None:
    begun, prepared = threading.Event(), threading.Event()
    when: list[Progress] = []

    def progress(at: Progress) -> None:
        begun.set()
        if prepared.is_set():
            when.append(at)
        elif at.clip == 30:
            prepared.wait(PATIENCE_S)

    expected = tiny_animator.prepare(picture(5), face_box="full").features["reference_key.mid"].read().copy()
    with tiny_animator.open_session(avatar, steps=1, progress=progress) as session:
        say(session, voice(60))
        taker = threading.Thread(target=lambda: list(session))
        taker.start()
        assert begun.wait(PATIENCE_S)
        found = tiny_animator.prepare(picture(5), face_box="full").features["reference_key.mid"].read()
        prepared.set()
        taker.join()
    np.testing.assert_array_equal(found, expected)
    assert when, "it did not wait for the end of the session"


def test_a_portrait_with_a_priority_does_not_wait_for_the_end_of_a_clip(
    tiny_animator: Animator, avatar: Avatar
) -> None:
    seen: list[str] = []
    begun, small = threading.Event(), picture(5)

    def progress(at: Progress) -> None:
        seen.append("step")
        begun.set()

    with tiny_animator.open_session(avatar, steps=900, progress=progress) as session:
        say(session, voice(2)[:CLIP])
        assert begun.wait(PATIENCE_S)
        tiny_animator.prepare(small, face_box="full", priority=1).close()
        seen.append("prepared")
    assert seen.index("prepared") < 900


# A session


def test_a_session_keeps_little_between_two_clips(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar, steps=1) as session:
        session.push(voice(6))
        for _ in range(5):
            next(session)
        assert 0 < session.nbytes <= session_bytes(tiny_animator.config)


@pytest.mark.parametrize("name", ["tiny", "demo", "emo", "hallo"])
def test_the_declared_size_of_an_idle_session_is_below_a_megabyte(name: str) -> None:
    assert session_bytes(preset(name)) < 1e6


def test_async_for_gives_the_chunks(tiny_animator: Animator, avatar: Avatar) -> None:
    sound = voice(3)

    async def talk(seed: int) -> Array:
        with tiny_animator.open_session(avatar, steps=2, seed=seed) as session:

            async def take() -> list[Array]:
                return [chunk.frames async for chunk in session]

            taking = asyncio.create_task(take())
            for piece in np.split(sound, 6):
                session.push(piece)
                await asyncio.sleep(0)
            session.end()
            return np.concatenate(await taking)

    async def both() -> list[Array]:
        return list(await asyncio.gather(talk(1), talk(2)))

    for seed, found in zip((1, 2), asyncio.run(both()), strict=True):
        np.testing.assert_array_equal(found, alone(tiny_animator, avatar, sound, seed=seed))


def test_sound_after_the_end_is_refused(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar, steps=1) as session:
        say(session, voice(1))
        session.end()
        with pytest.raises(InputError, match="has ended"):
            session.push(voice(1))
        assert len(frames(session)) == 4


def test_a_session_without_sound_gives_nothing(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar) as session:
        session.end()
        assert list(session) == []


def test_a_callback_must_not_wait_for_chunks(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar, steps=1, progress=lambda _: next(session)) as session:
        say(session, voice(1))
        with pytest.raises(InputError, match="must not wait"):
            next(session)


def test_a_callback_that_raises_stop_iteration_does_not_end_the_session_in_silence(
    tiny_animator: Animator, avatar: Avatar
) -> None:
    """Raised by ``next``, it would look like the regular end: frames would be missing."""

    def progress(_: Progress) -> None:
        raise StopIteration

    with tiny_animator.open_session(avatar, steps=1, progress=progress) as session:
        say(session, voice(1))
        with pytest.raises(RuntimeError, match="a callback raised StopIteration") as caught:
            next(session)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_cancel_wakes_who_waits(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar) as session:
        threading.Timer(0.05, session.cancel).start()
        with pytest.raises(Cancelled):
            next(session)


@pytest.mark.parametrize("wrong", [{"priority": "high"}, {"priority": float("nan")}, {"deadline": -1.0}], ids=str)
def test_a_place_in_the_queue_that_is_none_is_refused(
    tiny_animator: Animator, avatar: Avatar, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        tiny_animator.open_session(avatar, **wrong)
    assert not emo_threads()


def test_sound_that_is_too_long_is_refused_and_the_rest_goes_on(tiny_animator: Animator, avatar: Avatar) -> None:
    sound, limit = voice(2), 2 * CLIP / RATE
    with tiny_animator.open_session(avatar, steps=1, max_audio_s=limit) as session:
        session.push(sound[:CLIP])
        with pytest.raises(AudioError, match="max_audio_s"):
            session.push(sound[: CLIP + 1])
        say(session, sound[CLIP:])
        found = [chunk.frames for chunk in session]
    whole = tiny_animator.animate(avatar, sound, sample_rate=RATE, steps=1, max_audio_s=limit)
    np.testing.assert_array_equal(np.concatenate(found), whole.numpy())


# Ending it


@pytest.mark.parametrize("stop", ["cancel", "close"])
@pytest.mark.parametrize("inside", [False, True], ids=["another thread", "its callback"])
@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
def test_a_session_that_is_stopped_anywhere_leaves_nothing(
    tiny_animator: Animator, avatar: Avatar, stop: str, inside: bool, after: int
) -> None:
    reached = threading.Event()
    seen: list[Progress] = []

    def progress(at: Progress) -> None:
        seen.append(at)
        if len(seen) == after:
            reached.set()
            if inside:
                getattr(session, stop)()

    with tiny_animator.open_session(avatar, steps=2, progress=progress) as session:
        say(session, voice(6))
        assert reached.wait(PATIENCE_S)
        getattr(session, stop)()
        with pytest.raises(Cancelled if stop == "cancel" else ClosedError):
            list(session)
    if inside:
        assert len(seen) == after
    assert not emo_threads()
    assert tiny_animator.memory_stats()["runs"] == tiny_animator.memory_stats()["kept"] == 0
    np.testing.assert_array_equal(alone(tiny_animator, avatar, voice(2)), alone(tiny_animator, avatar, voice(2)))


def test_closing_wakes_who_waits(tiny_animator: Animator, avatar: Avatar) -> None:
    with tiny_animator.open_session(avatar) as session:
        threading.Timer(0.05, session.close).start()
        with pytest.raises(ClosedError):
            next(session)


@pytest.fixture
def own(tiny_bundle: Bundle) -> Iterator[tuple[Runtime, Animator]]:
    """A runtime apart from the others, with a model."""
    with Runtime("cpu") as runtime, Animator.load(tiny_bundle.path, device="cpu", threads=1, runtime=runtime) as loaded:
        yield runtime, loaded


def test_closing_an_animator_ends_its_sessions_and_no_other(own: tuple[Runtime, Animator], tiny_bundle: Bundle) -> None:
    runtime, animator = own
    expected = alone(animator, animator.prepare(picture(), face_box="full"), voice(8))
    with Animator.load(tiny_bundle.path, device="cpu", threads=1, runtime=runtime) as other:
        dying = animator.open_session(animator.prepare(picture(), face_box="full"), steps=2)
        living = other.open_session(other.prepare(picture(), face_box="full"), steps=2)
        for session in (dying, living):
            say(session, voice(8))
        next(dying)
        animator.close()
        with pytest.raises(ClosedError):
            list(dying)
        np.testing.assert_array_equal(frames(living), expected)
        assert runtime.sessions == 1


def test_closing_a_runtime_ends_all_of_it(own: tuple[Runtime, Animator]) -> None:
    runtime, animator = own
    avatar = animator.prepare(picture(), face_box="full")
    session = animator.open_session(avatar, steps=2)
    say(session, voice(6))
    next(session)
    runtime.close()
    runtime.close()
    with pytest.raises(ClosedError):
        list(session)
    with pytest.raises(ClosedError, match="runtime was closed"):
        animator.open_session(avatar)
    assert not emo_threads()


def test_a_runtime_of_another_device_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="runtime is 'cuda'"):
        Animator.load(tiny_bundle.path, device="cpu", runtime=Runtime("cuda"))


def test_a_slow_taker_holds_back_only_itself(tiny_animator: Animator, avatar: Avatar) -> None:
    made: list[int] = []
    slow = tiny_animator.open_session(avatar, steps=1, progress=lambda at: made.append(at.clip))
    with slow, tiny_animator.open_session(avatar, steps=1) as quick:
        say(slow, voice(20))
        say(quick, voice(20))
        assert len(frames(quick)) == 80
        assert max(made) < clip_maker.CLIPS_UNDER_WAY
        assert [chunk.index for chunk in islice(slow, 20)] == list(range(20))


# A stream in an event loop, and avatars in files


def test_a_stream_is_asynchronous_too(tiny_animator: Animator, avatar: Avatar) -> None:
    sound = voice(3)

    async def microphone() -> AsyncIterator[Array]:
        for piece in np.split(sound, 12):
            await asyncio.sleep(0)
            yield piece

    async def made(pieces: Any) -> Array:
        return np.concatenate([chunk.frames async for chunk in tiny_animator.stream(avatar, pieces, steps=2)])

    expected = alone(tiny_animator, avatar, sound)
    np.testing.assert_array_equal(asyncio.run(made(microphone())), expected)
    np.testing.assert_array_equal(asyncio.run(made([sound])), expected)
    with pytest.raises(AudioError, match="without a single sample"):
        asyncio.run(made([]))
    with pytest.raises(AudioError, match="async for"):
        list(tiny_animator.stream(avatar, microphone()))


def test_a_saved_avatar_is_the_same(own: tuple[Runtime, Animator], tiny_animator: Animator, tmp_path: Path) -> None:
    original = tiny_animator.prepare(picture(3), face_box=Box(8, 8, 30, 32))
    original.save(tmp_path / "avatar.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["avatar.npz"]
    loaded = own[1].load_avatar(tmp_path / "avatar.npz")
    found, expected = alone(own[1], loaded, voice(2)), alone(tiny_animator, original, voice(2))
    np.testing.assert_array_equal(found, expected)
    assert own[1].memory_stats()["avatars"] == loaded.nbytes == original.nbytes


def test_an_avatar_of_another_model_is_refused(avatar: Avatar, hallo_bundle: Bundle, tmp_path: Path) -> None:
    avatar.save(tmp_path / "avatar")
    with (
        Animator.load(hallo_bundle.path, device="cpu", threads=1) as other,
        pytest.raises(InputError, match=r"made with the model \w{12}, this is \w{12}; prepare the picture again"),
    ):
        other.load_avatar(tmp_path / "avatar")


@pytest.mark.parametrize("name", ["picture", "pixels", "about", "feature:portrait_latent"])
@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_damaged_avatar_is_refused(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path, name: str, damage: str
) -> None:
    path = tmp_path / "avatar.npz"
    avatar.save(path)
    arrays = dict(np.load(path))
    del arrays[name]
    if damage == "other":
        arrays[name] = np.zeros((3, 5), np.float64)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="the avatar"):
        tiny_animator.load_avatar(path)


def test_an_avatar_of_another_format_or_size_is_refused(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path
) -> None:
    path = tmp_path / "avatar.npz"
    avatar.save(path)
    arrays = dict(np.load(path))
    about = json.loads(bytes(arrays["about"]))
    newer = np.frombuffer(json.dumps({**about, "format": 99}).encode(), np.uint8)
    for name, value, message in (
        ("about", newer, "it has format 99, this release reads"),
        ("about", np.zeros(1_000_000, np.uint8), "its description is too long"),
        ("pixels", np.zeros((9, 512, 512, 3), np.uint8), "its pixels is too large"),
    ):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(InputError, match=message):
            tiny_animator.load_avatar(path)


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_avatar_is_refused(tiny_animator: Animator, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "avatar").write_bytes(content)
    with pytest.raises(InputError, match="the avatar"):
        tiny_animator.load_avatar(tmp_path / "avatar")


def test_an_avatar_is_read_from_regular_files_only(tiny_animator: Animator, tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for without end."""
    os.mkfifo(tmp_path / "avatar")
    with pytest.raises(InputError, match="avatar"):
        tiny_animator.load_avatar(tmp_path / "avatar")


@pytest.mark.parametrize("second", ["picture", "more.txt"])
def test_an_avatar_hides_no_array_behind_another(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path, second: str
) -> None:
    avatar.save(tmp_path / "avatar")
    with zipfile.ZipFile(tmp_path / "avatar", "a") as archive:
        archive.writestr(second, b"x" * 100)
    with pytest.raises(InputError, match="holds an array twice, or something else"):
        tiny_animator.load_avatar(tmp_path / "avatar")


def test_an_avatar_that_cannot_be_written_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the avatar"):
        avatar.save(tmp_path / "nowhere" / "avatar")
    assert list(tmp_path.iterdir()) == []
