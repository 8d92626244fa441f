"""The real onnxruntime-gpu on the simulated card: ``make card`` runs this where that package is installed.

Kernels are counted and not run, so pictures mean nothing here. What is real: sessions, memory, captures, replays.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, BackendError, Bundle, ConfigError, DeviceLostError
from emo_rt.device.cuda import open_device
from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
from emo_rt.device.onnxruntime_cuda_graph import ATTEMPTS
from emo_rt.model.contract import Array
from emo_rt.runtime.loaded_model import LoadedModel
from tests.card import launches
from tests.card.build import Control
from tests.card.memory import count

ROUNDS = int(os.environ.get("CARD_ROUNDS", "1000"))
"""Rounds of the stress test."""
RATE, CLIP = 16_000, 4 * 640
REPLAYS = "it replays a CUDA graph of its own"


@pytest.fixture
def card() -> Iterator[Control]:
    control = Control()
    control.reset()
    yield control
    control.reset()


@pytest.fixture
def animator(card: Control, tiny_bundle: Bundle) -> Iterator[Animator]:
    with opened(tiny_bundle) as made:
        yield made


def opened(bundle: Bundle) -> Animator:
    return Animator(LoadedModel(bundle, OrtCudaBackend(open_device())))


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def run(animator: Animator, clips: int = 2, avatar: Any = None, **options: Any) -> str:
    """Make a video; how its loop was launched."""
    avatar = avatar or animator.prepare(picture(), face_box="full")
    video = animator.animate(avatar, np.zeros(clips * CLIP, np.float32), sample_rate=RATE, **{"steps": 4, **options})
    video.numpy()
    assert video.stats is not None
    return video.stats.loop


def test_steps_are_captured_once_and_replayed(animator: Animator, card: Control) -> None:
    assert REPLAYS in run(animator)
    assert card.count("captures") == 2  # even and odd steps
    launched, allocated = card.count("graph_launches"), card.count("allocations")
    run(animator, avatar=None, clips=3)
    assert card.count("graph_launches") - launched == 3 * 4
    assert card.count("captures") == 2
    assert card.count("captures_lost") == 0
    assert allocated <= card.count("allocations")


def test_a_clip_allocates_nothing_once_it_is_warm(animator: Animator, card: Control) -> None:
    avatar = animator.prepare(picture(), face_box="full")
    run(animator, avatar=avatar)
    allocated = card.count("allocations")
    run(animator, clips=5, avatar=avatar)
    # A session has room for its motion frames; what goes up and down has its memory already.
    assert card.count("allocations") - allocated <= 1


@pytest.mark.parametrize("midway", [False, True])
@pytest.mark.parametrize("losses", [1, ATTEMPTS])
def test_a_lost_capture_is_made_again(
    animator: Animator, card: Control, midway: bool, losses: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By another part of the process, or by whatever: ONNX Runtime's own session goes on."""
    lost: list[int] = []
    lose = card.lose_capture_midway if midway else card.lose_capture
    graphs = animator._model.backend
    real = graphs.cuda.health.failed  # type: ignore[attr-defined]

    def failed(*args: Any) -> Any:  # called once for each capture that is lost
        lost.append(1)
        if len(lost) < losses:
            lose()
        return real(*args)

    graphs.cuda.health.failed = failed  # type: ignore[attr-defined]
    lose()
    loop = run(animator)
    assert card.count("captures_lost") == losses
    if losses < ATTEMPTS:
        assert REPLAYS in loop
        assert "uncaptured" not in caplog.text
    else:
        assert "could not capture a step itself" in loop
        assert REPLAYS in run(animator, clips=2, steps=48)  # the pause is over
    assert card.count("captures") == losses + 2


def test_a_lost_capture_needs_no_memory_for_a_second_session(card: Control, tiny_bundle: Bundle) -> None:
    card.forget_peak()
    before = card.count("device_bytes")
    with opened(tiny_bundle) as animator:
        run(animator)
    needed = card.count("device_peak") - before
    card.set_memory(card.count("device_bytes") + needed)
    try:
        with opened(tiny_bundle) as animator:
            card.lose_capture()
            assert REPLAYS in run(animator)
            assert card.count("captures_lost") == 1
    finally:
        card.set_memory(80 << 30)


def test_memory_that_runs_out_is_an_error_and_the_next_run_works(animator: Animator, card: Control) -> None:
    avatar = animator.prepare(picture(), face_box="full")
    card.set_memory(card.count("device_bytes") + 100_000)
    try:
        with pytest.raises(BackendError):
            run(animator, avatar=avatar)
    finally:
        card.set_memory(80 << 30)
    assert REPLAYS in run(animator, avatar=avatar)


def test_a_lost_device_is_final(animator: Animator, card: Control) -> None:
    avatar = animator.prepare(picture(), face_box="full")
    run(animator, avatar=avatar)
    card.fail_for_good(700)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="ILLEGAL_ADDRESS"):
            run(animator, avatar=avatar)
    card.reset()


def test_an_animator_gives_all_memory_back(card: Control, tiny_bundle: Bundle) -> None:
    left = []
    for _ in range(3):
        with opened(tiny_bundle) as animator:
            run(animator)
        gc.collect()  # also what earlier tests have left
        left.append((card.count("device_bytes"), card.count("pinned_bytes")))
    assert left[0] == left[1] == left[2]


def test_the_memory_of_graphs_is_counted(card: Control, tiny_bundle: Bundle) -> None:
    step = count(tiny_bundle, "step", card)
    unguided = count(tiny_bundle, "step_unguided", card)
    assert min(step.weights, step.tensors, step.running) > 0
    assert step.running > unguided.running  # half the batch


@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}], ids=["guided", "unguided"])
@pytest.mark.parametrize("source", ["tiny", "demo"])
def test_memory_is_reckoned_before_loading(
    card: Control, tiny_bundle: Bundle, source: str, options: dict[str, float]
) -> None:
    """Within 10 %, of what the whole animator takes: graphs, buffers, step tables."""
    bundle = tiny_bundle if source == "tiny" else Bundle.open("demo")
    before = card.count("device_bytes")
    with opened(bundle) as animator:
        run(animator, **options)
        counted = card.count("device_bytes") - before
    assert Animator.estimate_memory(bundle.path, steps=4, **options).counted == pytest.approx(counted, rel=0.1)


def test_a_limit_that_fits_one_setting_alone(card: Control, tiny_bundle: Bundle) -> None:
    """What does not fit is refused before anything of it is opened, and the next call works."""
    least, own = (Animator.estimate_memory(tiny_bundle.path, **changes) for changes in ({"guidance": 1.0}, {}))
    limit = (least.nbytes + own.nbytes) / 2 / 1e9
    with Animator(LoadedModel(tiny_bundle, OrtCudaBackend(open_device()), limit)) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        before = card.count("device_bytes")
        with pytest.raises(ConfigError, match=r"these settings fit: guidance=1 "):
            run(animator, avatar=avatar)
        assert card.count("device_bytes") == before
        assert REPLAYS in run(animator, avatar=avatar, guidance=1.0)
    with pytest.raises(ConfigError, match=r"no other setting of this bundle fits"):
        LoadedModel(tiny_bundle, OrtCudaBackend(open_device()), 0.001)


def test_a_step_gives_each_buffer_back_at_once(card: Control) -> None:
    """Not lent by plan: that takes 2.6 times as much for this step, 4.7 times for a full-size one."""
    assert count(Bundle.open("demo"), "step_unguided", card).running < 40e6


def test_launches_are_told_by_kind(card: Control, tiny_bundle: Bundle) -> None:
    launched = launches.count(tiny_bundle, "step", card)
    found = launches.kinds(launched)
    assert found.keys() <= launches.KINDS.keys()
    assert min(found["matrix product"], found["attention"], found["layer norm, with a residual"]) > 10
    assert found["sums of a group norm"] == found["memset"] > 10
    copies = found["memset"] + found["copy"]
    assert sum(found.values()) - copies == card.count("kernels")


def test_many_talk_and_many_prepare(animator: Animator, card: Control, tiny_bundle: Bundle) -> None:
    """Four threads that prepare pictures, three runs, sounds of two lengths: no capture is lost, nothing fails."""
    stop = threading.Event()

    def prepare(who: int) -> int:
        made = 0
        while not stop.is_set():
            animator.prepare(picture(who), face_box="full").close()
            made += 1
        return made

    def talk(who: int) -> None:
        avatar = animator.prepare(picture(who), face_box="full")
        for turn in range(ROUNDS // 3 + 1):
            assert REPLAYS in run(animator, clips=1 + (turn + who) % 2, avatar=avatar, steps=2)
            if turn % 10 == who:  # opens and captures everything beside the others
                with opened(tiny_bundle) as another:
                    assert REPLAYS in run(another, clips=1, steps=2)

    with ThreadPoolExecutor(7) as pool:
        preparing = [pool.submit(prepare, who) for who in range(4)]
        talking = [pool.submit(talk, who) for who in range(3)]
        try:
            for job in talking:
                job.result()
        finally:
            stop.set()
        assert all(job.result() > 0 for job in preparing)
    assert card.count("captures_lost") == card.count("unsafe_calls") == 0
    assert card.count("captures") > ROUNDS // 30


PROBE = """
from emo_rt.device.registry import open_backend
from emo_rt.errors import BackendUnavailableError
try:
    open_backend("onnxruntime", "cuda").close()
    print("works")
except BackendUnavailableError as exc:
    print(exc)
"""


def probe(folder: Path) -> str:
    """What a process says whose libraries are in ``folder``."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout.strip() or done.stderr[-2000:]


@pytest.mark.parametrize("library", ["libcudnn.so.9", "libcublas.so.13", None])
def test_a_machine_without_a_library_is_refused_when_the_backend_opens(tmp_path: Path, library: str | None) -> None:
    """And nothing is printed but what this program prints: a report as JSON stays one."""
    there = Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
    folder = Path(shutil.copytree(there, tmp_path / "libraries"))
    if library is not None:
        (folder / library).unlink()
    said = probe(folder)
    assert "\n" not in said
    assert (said == "works") is (library is None)
    assert library is None or said.startswith("device 'cuda' and backend 'onnxruntime' cannot be had: ONNX Runtime")
