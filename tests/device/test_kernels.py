"""Kernels that TensorRT for RTX compiled, kept beside a plan: native code, so read under the rules of a plan."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from emo_rt.device.tensorrt.kernels import KernelCache

SHA256 = "ab" * 32


class Cache:
    """``IRuntimeCache``: what it was given, and what it holds by then."""

    def __init__(self, fits: bool = True, content: bytes | None = b"compiled") -> None:
        self.fits, self.content = fits, content
        self.given: list[bytes] = []

    def deserialize(self, data: bytes) -> bool:
        self.given.append(data)
        return self.fits

    def serialize(self) -> bytearray | None:
        return None if self.content is None else bytearray(self.content)


class Config:
    """``IRuntimeConfig``."""

    def __init__(self, cache: Cache, takes: bool = True) -> None:
        self.cache, self.takes = cache, takes

    def create_runtime_cache(self) -> Cache:
        return self.cache

    def set_runtime_cache(self, cache: Cache) -> bool:
        assert cache is self.cache
        return self.takes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "engines"
    made.mkdir(mode=0o755)
    return made


def session(folder: Path, cache: Cache, takes: bool = True) -> Path:
    """A process that loads the plan, and ends."""
    plan = SimpleNamespace(path=folder / "step.plan", record=SimpleNamespace(sha256=SHA256))
    kernels = KernelCache(plan)  # type: ignore[arg-type]
    kernels.attach(Config(cache, takes))
    kernels.save()
    return kernels.path


def test_the_next_process_gets_what_was_compiled(folder: Path) -> None:
    path = session(folder, first := Cache())
    assert (path.name, path.read_bytes(), first.given) == (f"step.{SHA256[:12]}.kernels", b"compiled", [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat().st_ino
    session(folder, same := Cache())
    assert (same.given, path.stat().st_ino) == ([b"compiled"], before), "what did not change is not written again"
    session(folder, more := Cache(content=b"compiled, and more"))
    assert (more.given, path.read_bytes()) == ([b"compiled"], b"compiled, and more")


def test_kernels_of_another_version_are_compiled_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = session(folder, Cache(content=b"old"))
    with caplog.at_level(logging.INFO, logger="emo_rt"):
        session(folder, Cache(fits=False, content=b"old"))
    assert "kernels are compiled again" in caplog.text
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("takes", [True, False])
def test_nothing_is_kept_where_there_is_nothing_or_nobody_takes_it(folder: Path, takes: bool) -> None:
    session(folder, Cache(content=None if takes else b"compiled"), takes)
    assert list(folder.iterdir()) == []


def test_without_a_cache_saving_does_nothing(folder: Path) -> None:
    plan = SimpleNamespace(path=folder / "step.plan", record=SimpleNamespace(sha256=SHA256))
    KernelCache(plan).save()  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []


def link_out(path: Path) -> None:
    content = path.read_bytes()
    (path.parent.parent / "elsewhere").write_bytes(content)
    path.unlink()
    path.symlink_to(path.parent.parent / "elsewhere")


UNSAFE = {
    "a file that others can write": lambda path: path.chmod(0o666),
    "a folder that others can write": lambda path: path.parent.chmod(0o777),
    "a link": link_out,
    "a second name": lambda path: os.link(path, path.with_name("second")),
}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
@pytest.mark.parametrize("what", UNSAFE)
def test_what_others_could_have_written_is_not_loaded(
    folder: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    UNSAFE[what](session(folder, Cache()))
    with caplog.at_level(logging.INFO, logger="emo_rt"):
        session(folder, later := Cache(content=None))
    assert later.given == []
    assert "is not used" in caplog.text


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    session(tmp_path / "nowhere", cache := Cache(content=None))
    assert cache.given == []
