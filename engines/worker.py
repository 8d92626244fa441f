"""The process in which TensorRT builds: ``python -m emo_rt.engines.worker``, started by :mod:`emo_rt.engines.process`.

It reads jobs from standard input and answers on standard output, both as pickles. TensorRT also prints to standard
output, which therefore goes to standard error.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from typing import IO, Any

from emo_rt.engines.compile import Job, compile_graph
from emo_rt.errors import EmoRtError, EngineBuildError, OutputError

PROGRESS, LOG, RESULT, ERROR = "progress", "log", "result", "error"
"""Kinds of answers."""


def main() -> None:
    """Serve jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.getLogger("emo_rt").addHandler(_Forwarder(answers))
    while True:
        try:
            level, job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        logging.getLogger("emo_rt").setLevel(level)
        send(answers, *_serve(job, answers))


def send(answers: IO[bytes], kind: str, content: Any) -> None:
    """One answer."""
    pickle.dump((kind, content), answers)
    answers.flush()


def _serve(job: Job, answers: IO[bytes]) -> tuple[str, Any]:
    try:
        return RESULT, compile_graph(job, lambda done, _: send(answers, PROGRESS, done))
    except EmoRtError as exc:
        return ERROR, exc
    except OSError as exc:
        return ERROR, OutputError(f"cannot write {job.scratch}: {exc.strerror}")
    except Exception as exc:  # noqa: BLE001 - the parent raises it
        return ERROR, EngineBuildError(f"building {job.file} failed: {type(exc).__name__}: {exc}")


class _Forwarder(logging.Handler):
    """Log records, to the parent's log."""

    def __init__(self, answers: IO[bytes]) -> None:
        super().__init__()
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        send(self._answers, LOG, (record.levelno, record.getMessage()))


if __name__ == "__main__":
    main()
