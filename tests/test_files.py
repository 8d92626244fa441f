"""Files and folders that are whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from emo_rt.files import sha256_of, whole_file, whole_folder


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
