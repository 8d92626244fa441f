"""TensorRT in a process of its own.

It is native code that can crash on a graph, and it cannot be interrupted within a phase. So it builds in a child: a
crash is an error with a message, and a stop takes effect at once.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO, Any, Self

from emo_rt.engines.compile import Compiled, Job
from emo_rt.engines.monitor import STEPS, Progress
from emo_rt.engines.worker import ERROR, LOG, PROGRESS, RESULT
from emo_rt.errors import Cancelled, EngineBuildError

POLL_S = 0.1
"""How often the stop event is looked at."""
LAST_WORDS = 500
"""Characters of the child's standard error in the message about a crash."""
END = "end"
"""The child's answers are over."""

logger = logging.getLogger(__name__)


class BuilderProcess:
    """A child that builds one engine after the other. A context manager; it starts with the first job."""

    def __init__(self, stop: threading.Event) -> None:
        """``stop``: ends the build at hand at once."""
        self._stop = stop
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()

    def compile(self, job: Job, progress: Progress | None) -> Compiled:
        """Build one engine into ``job.scratch``.

        Raises :class:`EngineBuildError` when TensorRT refuses or crashes, :class:`OutputError` when the file cannot be
        written, :class:`Cancelled` once the event is set.
        """
        self._start()
        self._send(job)
        while True:
            kind, content = self._next(job)
            if kind == PROGRESS and progress is not None:
                progress(content, STEPS)
            elif kind == LOG:
                logger.log(*content)
            elif kind == ERROR:
                raise content
            elif kind == RESULT:
                assert isinstance(content, Compiled)
                return content

    def _next(self, job: Job) -> tuple[str, Any]:
        while not self._stop.is_set():
            try:
                kind, content = self._answers.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if kind == END:
                raise EngineBuildError(f"the process in which TensorRT built {job.file} died: {self._last_words()}")
            return kind, content
        raise Cancelled("the build was stopped; nothing of it was written")

    def _start(self) -> None:
        if self._child is not None:
            return
        # A session of its own: Ctrl-C is for this process, which then ends the child.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "emo_rt.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._child.stdout is not None
        self._reader = threading.Thread(
            target=_read, args=(self._child.stdout, self._answers), name="emo_rt-build", daemon=True
        )
        self._reader.start()

    def _send(self, job: Job) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; the reader finds the end of its answers
            pickle.dump((logging.getLogger("emo_rt").getEffectiveLevel(), job), self._child.stdin)
            self._child.stdin.flush()

    def _last_words(self) -> str:
        assert self._child is not None
        code = self._child.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        text = " ".join(self._errors.read().decode(errors="replace").split())
        return f"{cause}{f'; it said: {text[-LAST_WORDS:]}' if text else ''}"

    def close(self) -> None:
        """End the child, whatever it is doing. Safe twice."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            assert self._reader is not None
            self._reader.join()
            for pipe in (self._child.stdin, self._child.stdout):
                _close(pipe)
            self._child = None
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _read(pipe: IO[bytes], answers: queue.SimpleQueue[tuple[str, Any]]) -> None:
    try:
        while True:
            answers.put(pickle.load(pipe))
    except (EOFError, OSError, pickle.UnpicklingError):
        answers.put((END, None))


def _close(pipe: IO[bytes] | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # what the child did not read any more
        if pipe is not None:
            pipe.close()
