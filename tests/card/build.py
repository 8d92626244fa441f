"""The simulated card's libraries, built with gcc: ``python -m tests.card.build FOLDER``.

``libcuda.so.1`` is enough for ``cuda-core``; with the others the real ``onnxruntime-gpu`` runs on it. A program uses
them by ``LD_LIBRARY_PATH``. What is simulated, and by which rules: the comments in ``src/``.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).with_name("src")
COMPILER = "gcc"
FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden")

DRIVER = ("control", "context", "errors", "capture", "work", "stream", "graph", "memory", "pools", "lookup", "names")
LIBRARIES = {
    "libcuda.so.1": DRIVER,
    "libcard.so": DRIVER,  # for tests of its rules: no other part of a process takes it for a driver
    "libcudart.so.13": ("runtime", "runtime_kernels", "runtime_properties"),
    "libcublas.so.13": ("cublas",),
    "libcublasLt.so.13": ("cublaslt",),
    "libcudnn.so.9": ("cudnn",),
    "libcurand.so.10": ("curand",),
}
"""Library → its source files. All but the first call the first."""

COUNTS = (
    "captures",
    "captures_lost",
    "unsafe_calls",
    "graph_launches",
    "kernels",
    "allocations",
    "device_bytes",
    "device_peak",
    "pinned_bytes",
    "host_waits",
)
"""``Count`` of card.h."""


def missing() -> str | None:
    """Why the card cannot be built here, if it cannot."""
    if not sys.platform.startswith("linux"):
        return "the simulated card is built for Linux only"
    if shutil.which(COMPILER) is None:
        return f"the simulated card is built with {COMPILER}, which is not installed"
    return None


def build(cache: Path) -> Path:
    """The folder of the libraries under ``cache``, built once per version of the sources."""
    sources = b"".join(path.read_bytes() for path in [Path(__file__), *sorted(SOURCES.iterdir())])
    target = cache / f"card-{hashlib.sha256(sources).hexdigest()[:16]}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch) / "libraries"
        made.mkdir()
        for name, parts in LIBRARIES.items():
            _compile(made, name, parts)
        try:
            made.rename(target)
        except OSError:  # another process was faster
            if not target.exists():
                raise
    return target


def _compile(folder: Path, name: str, parts: tuple[str, ...]) -> None:
    versions = folder / f"{name}.map"  # symbols carry the library's name as their version, as NVIDIA's do
    versions.write_text(f"{name} {{ global: *; }};\n", encoding="ascii")
    versioned = [] if parts is DRIVER or name == "libcudnn.so.9" else [f"-Wl,--version-script={versions}"]
    files = [str(SOURCES / f"{part}.c") for part in parts]
    below = [] if parts is DRIVER else [str(folder / "libcuda.so.1"), "-Wl,--no-as-needed"]
    command = [COMPILER, *FLAGS, "-o", str(folder / name), *files, f"-Wl,-soname,{name}", *versioned, *below]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment variables of a process that has the card. ``more``: CARD_MEMORY (bytes), CARD_DEVICES …"""
    paths = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, paths)), **more}


class Control:
    """The card's own functions, in a process that has loaded it."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        self.library = ctypes.CDLL(library)
        self.library.card_count.restype = ctypes.c_longlong
        self.library.card_set_memory.argtypes = [ctypes.c_size_t]
        self.library.card_launches.restype = ctypes.c_char_p

    def count(self, what: str) -> int:
        """One of :data:`COUNTS`."""
        return int(self.library.card_count(COUNTS.index(what)))

    def launches(self) -> dict[str, int]:
        """What was enqueued or captured since the last reset: name of the kernel, or of the library's function → how
        often. Copies and memsets are ``copy`` and ``fill``."""
        found: dict[str, int] = {}
        count = ctypes.c_longlong()
        while (name := self.library.card_launches(len(found), ctypes.byref(count))) is not None:
            found[name.decode()] = count.value
        return found

    def reset(self) -> None:
        """No failure is due, and none has happened; counts of calls begin again."""
        self.library.card_reset()

    def fail_for_good(self, status: int) -> None:
        """Every call fails with that status from now on, as after an illegal access (700)."""
        self.library.card_fail(status)

    def fail_allocation(self, after: int = 0) -> None:
        """Let one allocation fail: the next, or one after it."""
        self.library.card_fail_allocation(after)

    def lose_capture(self, after: int = 0) -> None:
        """Let one capture be invalidated, as if another thread had allocated: the next, or one after it."""
        self.library.card_lose_capture(after)

    def lose_capture_midway(self, after: int = 0) -> None:
        """The same in the middle: at the next piece of captured work, or one after it."""
        self.library.card_lose_capture_midway(after)

    def set_memory(self, nbytes: int) -> None:
        """How much memory the card has."""
        self.library.card_set_memory(nbytes)

    def forget_peak(self) -> None:
        """The largest use of memory counts from now on."""
        self.library.card_forget_peak()


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))  # noqa: T201 - for scripts that set LD_LIBRARY_PATH
