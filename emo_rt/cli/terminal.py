"""What a person at a terminal sees: lines, a progress bar, figures in words, and what Ctrl-C does."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

REDRAW_S = 0.1
"""Shortest time between two pictures of a progress bar."""
BAR_CELLS = 24
"""Width of the bar itself, in characters."""
ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask for an end: of a service manager, and of a terminal that is closed."""
COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it, what turns the order of characters (Unicode's ``Bidi_Control``), what
ends a line, and what no UTF-8 can hold."""


def plain(text: str) -> str:
    """Text as it may be shown: what names of files, metadata and models tell the terminal to do is spelled out.

    An escape becomes ``\\u001b``: in the strings of JSON, too, where it means the same. Line ends and tabs stay.
    """
    return COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """The same for a cell of a table: a line end in it must not begin a row."""
    return plain(text).replace("\n", "\\u000a").replace("\t", " ")


def say(text: str) -> None:
    """A line of the result, on stdout."""
    sys.stdout.write(plain(text) + "\n")


def note(text: str) -> None:
    """A line beside the result, on stderr."""
    _tell(plain(text) + "\n")


def _tell(text: str) -> None:
    """Write to stderr, if somebody takes it: what is said beside the work must not end the work."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


class ProgressBar:
    """One line on stderr that is redrawn in place; nothing where stderr is no terminal. A context manager."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        """``label``: what is being done. ``quiet``: show nothing."""
        self._label = label
        self._shown = not quiet and sys.stderr.isatty()
        self._start = time.monotonic()
        self._drawn_at = self._start - REDRAW_S
        self._width = 0

    def update(self, done: float, total: int, more: str = "") -> None:
        """``done`` of ``total`` steps are made, 0 < done ≤ total; ``more`` to say. From any one thread."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn_at < REDRAW_S and done < total):
            return
        self._drawn_at = now
        left = (now - self._start) / done * (total - done)
        bar = ("#" * int(BAR_CELLS * done / total)).ljust(BAR_CELLS, "-")
        share = f"{int(100 * done / total):3d} %  {int(done)}/{total}"
        self._draw(f"{self._label} [{bar}] {share}  {duration(left)} left{more}")

    def close(self) -> None:
        """Wipe the line. Safe twice."""
        if self._width:
            self._draw("")
            _tell("\r")
            self._width = 0

    def _draw(self, line: str) -> None:
        line = one_line(line)[: shutil.get_terminal_size().columns - 1]
        _tell("\r" + line.ljust(self._width))
        self._width = len(line)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def size(count: int) -> str:
    """Bytes in words: ``2.2 MB``."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds in words: ``4.8 s``, ``12 min 05 s``, ``2 h 03 min``."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {one_line(value)}" for name, value in rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first and the last to the left, those between to the right. The first row is the header."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last + 1)]
    lines = []
    for row in rows:
        cells = [f"{row[c]:<{widths[c]}}" if c in (0, last) else f"{row[c]:>{widths[c]}}" for c in range(last + 1)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@contextlib.contextmanager
def stop_event(answer: str = "stopping after this step ...") -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets, so that a run can end in order.

    A second one interrupts in the usual way. ``answer``: what the first one is told, where somebody is watching.
    Signals reach the main thread only: in another one, or where Ctrl-C is ignored (``nohup``), nothing sets it.
    """
    stop = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDS)}
    heard = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        heard = []

    def on_signal(number: int, _: FrameType | None) -> None:
        signal.signal(number, previous[signal.Signals(number)])
        stop.set()
        if sys.stderr.isatty():
            with contextlib.suppress(OSError):  # a terminal that is gone
                os.write(2, f"\n{answer}\n".encode())

    for number in heard:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number in heard:
            signal.signal(number, previous[number])


class _PlainFormatter(logging.Formatter):
    """Log messages name files, too."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


@contextlib.contextmanager
def session(*, debug: bool) -> Iterator[None]:
    """For the time of one command: SIGTERM and SIGHUP end it like Ctrl-C, and warnings of the library go to stderr.

    Notes, like which of two faces was taken, come too where somebody is watching; ``debug``: everything.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(levelname)s: %(message)s" if debug else "note: %(message)s"))
    logger = logging.getLogger("emo_rt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO if sys.stderr.isatty() else logging.WARNING)
    try:
        with _ends_as_interrupts():
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def fill_closed_streams() -> None:
    """Open the null device in place of standard streams that were closed (``>&-``, a service without a console).

    Python has ``None`` for them then. Worse, the first file that is opened would get the number of a closed one, and
    what a native library tells stderr would go into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def is_stdout_closed() -> bool:
    """Whether there was no standard output when the program started."""
    return sys.__stdout__ is None


def tolerate_narrow_encodings() -> None:
    """Where the terminal's encoding lacks a character (``…``, ``×``), print ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def _ends_as_interrupts() -> Iterator[None]:
    in_main = threading.current_thread() is threading.main_thread()
    wanted = [number for number in ENDS if in_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in wanted:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, signal.SIG_DFL)
