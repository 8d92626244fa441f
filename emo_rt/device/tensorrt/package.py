"""The one adapter over the packages ``tensorrt`` (10 and 11) and ``tensorrt_rtx``: finding one, its log, its names.

The two have the same Python interface. What differs is asked for here, and nowhere compared by name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_rt.checks import check
from emo_rt.errors import BackendError, MissingDependencyError

PACKAGES = ("tensorrt", "tensorrt_rtx")
"""Import names, in the order in which ``auto`` tries them."""
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Import name → extra of emo_rt that installs it."""
OLDEST = {"tensorrt": (10, 14), "tensorrt_rtx": (1, 7)}
"""First version that we use: ONNX ``Attention`` came to ``tensorrt`` with 10.14; older ``tensorrt_rtx`` is untested."""
DTYPE_NAMES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}
"""Name of a ``DataType`` → ours (numpy's)."""

logger = logging.getLogger(__name__)

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
}
"""Severity → level. TensorRT's INFO is what a developer wants to see; its VERBOSE goes to listeners only."""


@dataclass(frozen=True)
class LogLine:
    """One message of TensorRT."""

    severity: str
    """``INTERNAL_ERROR``, ``ERROR``, ``WARNING``, ``INFO`` or ``VERBOSE``."""
    text: str
    """The message."""


Keep = Callable[[LogLine], bool]
"""Whether a listener wants a line."""


@dataclass(frozen=True)
class TensorRT:
    """One of the two packages, loaded. There is one object per package and process, because there is one log."""

    name: str
    """Import name: ``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    """Its version, like ``11.4.0.27``."""
    module: Any
    """The package."""
    log: TensorRTLog
    """Where its messages go."""

    @property
    def logger(self) -> Any:
        """The ``ILogger`` to pass to every object of the package."""
        return self.log.sink

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT for RTX: it builds without a GPU and compiles kernels at the first run."""
        return hasattr(self.module, "ComputeCapability")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """GPUs for which it can build without having one: ``sm86``, ``sm89``, …; none for ``tensorrt``."""
        if not self.is_rtx:
            return ()
        names = [name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM")]
        return tuple(sorted(names, key=lambda name: int(name.removeprefix("sm"))))

    def runtime(self) -> Any:
        """A new ``Runtime``, which makes engines of plans. Raises :class:`BackendError` when it cannot be made."""
        with self.listen() as lines:
            try:
                return self.module.Runtime(self.logger)
            except Exception as exc:  # pybind gives a TypeError, a RuntimeError …
                raise BackendError(f"{self.name} {self.version} gives no runtime: {problem(lines, exc)}") from exc

    def dtype_name(self, data_type: Any) -> str:
        """``DataType.HALF`` → ``float16``; for a type that no graph of ours has, TensorRT's own name."""
        return DTYPE_NAMES.get(data_type.name, str(data_type.name))

    @contextlib.contextmanager
    def listen(self, keep: Keep | None = None) -> Iterator[list[LogLine]]:
        """Collect what TensorRT says meanwhile: its errors have no other way out. ``keep``: which lines; default all
        but VERBOSE, of which a large build has many megabytes."""
        with self.log.listen(keep or _not_verbose) as lines:
            yield lines

    def refit(self, engine: Any, onnx_file: Path) -> None:
        """Give a weight-stripped engine the weights of its ONNX file. Raises :class:`BackendError`."""
        with self.listen() as lines:
            refitter = self.module.Refitter(engine, self.logger)
            parser = self.module.OnnxParserRefitter(refitter, self.logger)
            if not parser.refit_from_file(str(onnx_file)) or not refitter.refit_cuda_engine():
                missing = len(refitter.get_missing_weights())
                raise BackendError(
                    f"{self.name} {self.version} cannot fill the engine with the weights of {onnx_file}; {missing} are "
                    f"missing: {problem(lines)}"
                )


class TensorRTLog:
    """TensorRT's messages, to :mod:`logging` and to whoever listens. They may come from any thread."""

    def __init__(self, module: Any) -> None:
        """``module``: the package."""
        self._listeners: list[tuple[Keep, list[LogLine]]] = []
        self._lock = threading.Lock()
        self.sink = _make_sink(module, self)

    def take(self, severity: str, text: str) -> None:
        """Called by TensorRT."""
        level = _LEVELS.get(severity)
        if level is not None:
            logger.log(level, "%s", text)
        line = LogLine(severity, text)
        with self._lock:
            for keep, lines in self._listeners:
                if keep(line):
                    lines.append(line)

    @contextlib.contextmanager
    def listen(self, keep: Keep) -> Iterator[list[LogLine]]:
        """Collect the messages that ``keep`` accepts."""
        lines: list[LogLine] = []
        with self._lock:
            self._listeners.append((keep, lines))
        try:
            yield lines
        finally:
            with self._lock:
                self._listeners[:] = [other for other in self._listeners if other[1] is not lines]


def _make_sink(module: Any, log: TensorRTLog) -> Any:
    """An ``ILogger`` that hands on to ``log``. The class exists only once the package is loaded."""

    class Sink(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)  # pybind insists on this form

        def log(self, severity: Any, message: str) -> None:
            log.take(severity.name, message)

    return Sink()


def _not_verbose(line: LogLine) -> bool:
    return line.severity != "VERBOSE"


def problem(lines: list[LogLine], exc: BaseException | None = None) -> str:
    """What went wrong, in TensorRT's words: its first error, else the exception."""
    errors = [line.text for line in lines if "ERROR" in line.severity]
    return " ".join((errors[0] if errors else str(exc or "it does not say why")).split())


def load_package(name: str = "auto") -> TensorRT:
    """Load ``tensorrt``, ``tensorrt_rtx``, or the first of them that is installed (``auto``).

    Raises :class:`ConfigError` for another name, :class:`MissingDependencyError` with the command that installs it,
    :class:`BackendError` for a package that is installed but broken or too old.
    """
    check(name in ("auto", *PACKAGES), "package", name, f"one of auto, {', '.join(PACKAGES)}")
    if name != "auto":
        return _load(name)
    for candidate in PACKAGES:
        with contextlib.suppress(MissingDependencyError):
            return _load(candidate)
    commands = " or ".join(f"pip install 'emo_rt[{extra}]'" for extra in EXTRAS.values())
    raise MissingDependencyError(f"TensorRT is not installed; {commands}")


@functools.cache
def _load(name: str) -> TensorRT:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name != name:  # it is there, and a part of it is not
            raise BackendError(f"{name} is installed but does not load: {exc}; install it again") from exc
        raise MissingDependencyError(f"{name} is not installed; pip install 'emo_rt[{EXTRAS[name]}]'") from exc
    except (ImportError, OSError, RuntimeError) as exc:  # a library of the system is absent or of another version
        raise BackendError(f"{name} is installed but does not load: {exc}; install it again") from exc
    version = str(module.__version__)
    if _numbers(version) < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        raise BackendError(f"{name} is version {version}; emo_rt needs {oldest} or newer, which knows ONNX Attention")
    return TensorRT(name, version, module, TensorRTLog(module))


def _numbers(version: str) -> tuple[int, int]:
    """``10.14.1.48`` → (10, 14)."""
    major, minor = (version + ".0").split(".")[:2]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
