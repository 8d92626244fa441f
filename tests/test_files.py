"""Files and folders that are whole or not there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emo_rt.errors import ConfigError
from emo_rt.files import (
    STALE_S,
    NotRegularError,
    path_of,
    read_bounded,
    remove_leftovers,
    sha256_of,
    whole_file,
    whole_folder,
)

ROOT = Path(__file__).resolve().parent.parent


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as scratch:
        scratch.write_text("new")
        assert target.read_text() == "old"
    assert (target.read_text(), os.listdir(tmp_path)) == ("new", ["a.txt"])


def test_a_failed_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.txt") as scratch:  # noqa: PT012
        scratch.write_text("half")
        raise ZeroDivisionError
    assert ((tmp_path / "a.txt").read_text(), os.listdir(tmp_path)) == ("old", ["a.txt"])


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with whole_folder(target) as scratch:
        (scratch / "a").touch()
        assert not target.exists()
    assert (os.listdir(target), os.listdir(target.parent)) == (["a"], ["folder"])


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "folder") as scratch:  # noqa: PT012
        (scratch / "a").touch()
        raise ZeroDivisionError
    assert (os.listdir(tmp_path), os.listdir(tmp_path / "folder")) == (["folder"], [])


def test_a_folder_that_was_filled_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(OSError, match="folder"), whole_folder(target):  # noqa: PT012
        target.mkdir()
        (target / "theirs").touch()
    assert (os.listdir(tmp_path), os.listdir(target)) == (["folder"], ["theirs"])


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with whole_file(target) as scratch:
        scratch.touch()
    assert target.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file"), whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "folder")]
    assert modes == [0o640, 0o750]


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- two writers, and those that were killed -------------------------------------------------------------------------


def test_what_exists_is_kept_where_it_shall_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("theirs")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "a.txt", overwrite=False):
        pytest.fail("an hour of work")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("has_links", [True, False], ids=["hard links", "no hard links"])
def test_of_two_writers_one_wins(tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "a.txt"
    with pytest.raises(FileExistsError), whole_file(target, overwrite=False) as late:  # noqa: PT012
        with whole_file(target, overwrite=False) as early:
            early.write_text("first")
        late.write_text("second")
    assert (target.read_text(), os.listdir(tmp_path)) == ("first", ["a.txt"])


def test_a_name_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"), whole_file(tmp_path / ("n" * 256)):
        pytest.fail("an hour of work")
    with pytest.raises(OSError, match="too long"), whole_folder(tmp_path / ("n" * 256)):
        pytest.fail("an hour of work")
    with pytest.raises(ConfigError, match="a path without a zero byte"):
        path_of("path", "a\0b")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from emo_rt.files import whole_file, whole_folder
with whole_file(Path(sys.argv[1]) / "a"), whole_folder(Path(sys.argv[1]) / "b") as folder:
    (folder / "c").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX's locks and signals")
def test_what_a_killed_process_left_goes_with_the_next_writer(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=ROOT)
    assert (done.returncode, len(os.listdir(tmp_path))) == (-signal.SIGKILL, 2)
    with whole_file(tmp_path / "mine") as living:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        os.mkfifo(tmp_path / ".emo_rt-pipe.part")
        assert remove_leftovers(tmp_path, STALE_S) == 2
        assert living.exists()
    assert sorted(os.listdir(tmp_path)) == [".emo_rt-pipe.part", "mine"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX's locks")
def test_leftovers_of_others_stop_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, real = tmp_path / ".emo_rt-1.part", Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == old:
            raise PermissionError
        real(path, missing_ok)

    old.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(Path, "unlink", unlink)
    with whole_file(tmp_path / "a"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".emo_rt-1.part", "a"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX's locks")
def test_the_first_writer_in_a_folder_sweeps_it(tmp_path: Path) -> None:
    old, new = tmp_path / ".emo_rt-1.part", tmp_path / ".emo_rt-2.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    with whole_file(tmp_path / "a"):
        assert (old.exists(), new.exists()) == (False, True)  # the new one may be in the hands of a name change


# --- reading ---------------------------------------------------------------------------------------------------------


def test_only_regular_files_within_bounds_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="too large; expected 4 bytes at most"):
        read_bounded(tmp_path / "a", 4)
    with pytest.raises(NotRegularError, match="it is a folder"):
        read_bounded(tmp_path, 4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegularError, match="it is a pipe"):
        read_bounded(tmp_path / "pipe", 4)
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(NotRegularError, match="it is a device"):
        read_bounded(tmp_path / "endless", 4)
