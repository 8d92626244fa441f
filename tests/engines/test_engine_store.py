"""Engines on disk: locked, whole or not at all, stopped in order."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.engines import compile, store, worker
from emo_rt.engines.builder import Hooks, build_engines
from emo_rt.engines.facts import EngineFacts
from emo_rt.engines.lock import LOCK_NAME, BuildLock
from emo_rt.engines.options import BuilderOptions, BuildRequest
from emo_rt.engines.process import BuilderProcess
from emo_rt.engines.target import Target
from emo_rt.errors import Cancelled, EngineBuildError, EngineIntegrityError, OutputError
from emo_rt.model.interface import FoundTensor

REQUEST = BuildRequest("tensorrt_rtx", "sm89", ("timestep", "step"))
"""A graph that builds at once, and one that takes seconds."""


@pytest.fixture(autouse=True)
def needs_package() -> None:
    pytest.importorskip("tensorrt_rtx")


def request(cache: Path, *graphs: str) -> BuildRequest:
    return BuildRequest("tensorrt_rtx", "sm89", graphs or ("timestep", "step"), cache=cache)


@pytest.fixture(scope="module")
def with_engine(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with an engine of ``timestep``."""
    cache = tmp_path_factory.mktemp("built") / "cache"
    (built,) = build_engines(tiny_bundle, request(cache, "timestep"))
    assert built.is_new
    return cache


@pytest.fixture
def built_before(with_engine: Path, tmp_path: Path) -> Path:
    """A copy of it: a build of ``timestep`` finds the engine there."""
    return Path(shutil.copytree(with_engine, tmp_path / "cache"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestLock:
    def test_second_waits_for_the_first(self, tmp_path: Path) -> None:
        lines: list[str] = []
        order: list[str] = []

        def second() -> None:
            with BuildLock(tmp_path, lines.append, threading.Event()):
                order.append("second")

        with BuildLock(tmp_path, lines.append, threading.Event()):
            thread = threading.Thread(target=second)
            thread.start()
            wait_until(lambda: len(lines) == 1)
            order.append("first")
        thread.join()
        assert order == ["first", "second"]
        assert lines == [f"another process builds in {tmp_path}; waiting for it"]

    def test_wait_can_be_stopped(self, tmp_path: Path) -> None:
        stop = threading.Event()
        stop.set()
        with BuildLock(tmp_path, print, threading.Event()), pytest.raises(Cancelled):
            BuildLock(tmp_path, lambda _: None, stop).__enter__()

    def test_lock_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="--cache"):
            BuildLock(tmp_path / "nowhere", print, threading.Event()).__enter__()

    def test_link_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("x")
        (tmp_path / LOCK_NAME).symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError):
            BuildLock(tmp_path, print, threading.Event()).__enter__()

    def test_two_processes_build_once(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        arguments = [sys.executable, "-m", "emo_rt.cli", "build", str(tiny_bundle.path), "--cache", str(tmp_path)]
        arguments += ["--package", "tensorrt_rtx", "--target", "sm89", "--graphs", "timestep,vae_encoder"]
        both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
        said = [process.communicate(timeout=240)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert sum(text.count("building for sm89") for text in said) == 2
        assert sum(text.count("up to date") for text in said) == 2


class TestWriting:
    def test_failed_write_keeps_the_old_engine(
        self, tiny_bundle: Bundle, built_before: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (first,) = build_engines(tiny_bundle, request(built_before, "timestep"))

        def full_disk(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        again = BuildRequest("tensorrt_rtx", "sm89", ("timestep",), cache=built_before, force=True)
        with pytest.raises(OutputError, match="No space left on device"):
            build_engines(tiny_bundle, again)
        assert first.plan.read()
        assert not list(built_before.rglob("*.part"))

    def test_crash_between_plan_and_sidecar(
        self, tiny_bundle: Bundle, built_before: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The old sidecar still vouches for the old plan; the next build sweeps."""
        (first,) = build_engines(tiny_bundle, request(built_before, "timestep"))
        folder = first.plan.folder
        orphan = folder / f"{first.plan.record.key.stem}.0123456789ab.plan"
        orphan.write_bytes(b"x")
        kernels = folder / f"{first.plan.record.key.stem}.0123456789ab.0123456789ab.kernels"
        kernels.write_bytes(b"x")
        (folder / ".left.plan.part").write_bytes(b"x")
        assert first.plan.read()
        again = BuildRequest("tensorrt_rtx", "sm89", ("timestep",), cache=built_before, force=True)
        build_engines(tiny_bundle, again)
        assert sorted(path.suffix for path in folder.iterdir() if path.name != LOCK_NAME) == [".json", ".plan"]
        assert not orphan.exists()
        assert not kernels.exists()

    def test_other_engines_stay(self, tiny_bundle: Bundle, built_before: Path) -> None:
        (first,) = build_engines(tiny_bundle, request(built_before, "timestep"))
        other = BuildRequest("tensorrt_rtx", "sm120", ("timestep",), cache=built_before)
        (second,) = build_engines(tiny_bundle, other)
        assert first.plan.read()
        assert second.plan.read()

    def test_modes_do_not_depend_on_the_umask(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            (built,) = build_engines(tiny_bundle, request(tmp_path, "timestep"))
        finally:
            os.umask(before)
        assert built.plan.folder.stat().st_mode & 0o777 == 0o755
        assert {path.stat().st_mode & 0o022 for path in built.plan.folder.iterdir() if path.name != LOCK_NAME} == {0}
        assert built.plan.read()

    def test_unsafe_folder_is_refused_before_the_work(self, tiny_bundle: Bundle, built_before: Path) -> None:
        (built,) = build_engines(tiny_bundle, request(built_before, "timestep"))
        built.plan.folder.chmod(0o777)
        with pytest.raises(EngineIntegrityError, match="chmod go-w"):
            build_engines(tiny_bundle, request(built_before, "timestep"))

    def test_folder_that_cannot_be_made(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="--cache"):
            build_engines(tiny_bundle, request(tmp_path / "file", "timestep"))

    def test_unreadable_sidecar_counts_as_none(self, tiny_bundle: Bundle, built_before: Path) -> None:
        (built,) = build_engines(tiny_bundle, request(built_before, "timestep"))
        sidecar = built.plan.folder / f"{built.plan.record.key.stem}.json"
        sidecar.write_text("{")
        (again,) = build_engines(tiny_bundle, request(built_before, "timestep"))
        assert again.is_new
        assert store.plan_for(built.plan.folder, again.plan.record.key) == again.plan


class TestStopping:
    def test_before_a_graph(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        hooks = Hooks()
        hooks.stop.set()
        with pytest.raises(Cancelled):
            build_engines(tiny_bundle, request(tmp_path), hooks)

    def test_within_a_build(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        """The first engine stays, of the second there is nothing, and building again works."""
        stop, seen = threading.Event(), list[int]()

        def progress(graph: str) -> Any:
            def step(done: int, total: int) -> None:
                seen.append(done)
                if graph == "step":
                    stop.set()

            return step

        with pytest.raises(Cancelled):
            build_engines(tiny_bundle, request(tmp_path), Hooks(progress=progress, stop=stop))
        names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
        assert [name.split("-")[0] for name in names if name != LOCK_NAME] == ["timestep", "timestep"]
        assert seen
        assert build_engines(tiny_bundle, request(tmp_path, "timestep"))[0].is_new is False

    def test_interrupt_of_the_waiting_thread(
        self, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C reaches this process while TensorRT works in the child, which must not outlive it."""
        children: list[Any] = []

        def interrupted(self: BuilderProcess, job: Any) -> Any:
            children.append(self._child)
            raise KeyboardInterrupt

        monkeypatch.setattr(BuilderProcess, "_next", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_engines(tiny_bundle, request(tmp_path, "step"))
        assert children[0].poll() is not None
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK_NAME]

    def test_signal_to_the_command(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        arguments = [sys.executable, "-m", "emo_rt.cli", "build", str(tiny_bundle.path), "--cache", str(tmp_path)]
        arguments += ["--package", "tensorrt_rtx", "--target", "sm89", "--graphs", "step"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert "building for sm89" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert out == ""
        assert errors.splitlines()[-1].startswith("stopped")
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK_NAME]


class TestChild:
    def test_crash_is_an_error(self, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As TensorRT does on some graphs; this process lives on, and the next build works."""
        monkeypatch.setattr(sys, "executable", str(program(tmp_path, "echo last words >&2; kill -SEGV $$")))
        with pytest.raises(EngineBuildError, match=r"timestep\.onnx died: SIGSEGV; it said: last words"):
            build_engines(tiny_bundle, request(tmp_path / "cache", "timestep"))
        assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [LOCK_NAME]
        monkeypatch.undo()
        assert build_engines(tiny_bundle, request(tmp_path / "cache", "timestep"))

    def test_child_that_does_not_start(
        self, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", str(program(tmp_path, "exit 3")))
        with pytest.raises(EngineBuildError, match="exit code 3"):
            build_engines(tiny_bundle, request(tmp_path / "cache", "timestep"))

    def test_log_arrives_here(self, tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "emo_rt")
        build_engines(tiny_bundle, request(tmp_path, "timestep"))
        assert any("Detected 1 inputs and 1 output network tensors" in record.message for record in caplog.records)

    def test_close_is_safe_twice(self) -> None:
        process = BuilderProcess(threading.Event())
        process.close()
        process.close()


def program(folder: Path, script: str) -> Path:
    """A stand-in for the interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def job(tiny_bundle: Bundle, tmp_path: Path) -> compile.Job:
    file = tiny_bundle.graph_path("timestep")
    return compile.Job("tensorrt_rtx", file, {}, Target(("sm89",), None), BuilderOptions(), tmp_path / "plan")


def test_several_engines_in_one_plan_are_refused(job: compile.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "_examine", lambda *_: EngineFacts("build log", numbers={"engines": 2}))
    with pytest.raises(EngineBuildError, match="became 2 engines, expected one"):
        compile.compile_graph(job, None)
    assert not job.scratch.exists()


def test_without_tensors_in_the_log_the_network_is_asked(job: compile.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "_examine", lambda *_: EngineFacts("build log", numbers={}))
    compiled = compile.compile_graph(job, None)
    assert compiled.tensors_of == "network"
    assert compiled.tensors[0] == FoundTensor("timestep", True, "float32", (1,))


def test_worker_translates_errors(job: compile.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = io.BytesIO()
    assert worker._serve(job, answers)[0] == worker.RESULT
    kind, exc = worker._serve(job, answers)  # the file is there already
    assert kind == worker.ERROR
    assert isinstance(exc, OutputError)
    monkeypatch.setattr(worker, "compile_graph", lambda *_: 1 / 0)
    kind, exc = worker._serve(job, answers)
    assert isinstance(exc, EngineBuildError)
    assert "ZeroDivisionError" in str(exc)


def test_peak_memory_is_of_one_build() -> None:
    """In a process of its own: what others left to the allocator decides what a process gives back."""
    program = """if True:
        from emo_rt.engines.memory import peak_bytes, reset_peak
        ballast = bytearray(200_000_000)
        ballast[::4096] = b"x" * len(ballast[::4096])
        high = peak_bytes()
        del ballast
        reset_peak()
        print((high or 0) - (peak_bytes() or 0), high)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    given_back, high = done.stdout.split()
    if high == "None":
        pytest.skip("this system does not say")
    assert int(given_back) > 150_000_000
