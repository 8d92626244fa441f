"""The sidecar of tuned presets: written whole or not at all, and every way in which it cannot be used has its words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle, BundleError, OutputError
from emo_rt.model.presets import Preset
from emo_rt.model.tuned import VARIABLE, Tuned, forget_tuned, read_tuned, tuned_file, with_tuned, write_tuned

TUNED = Tuned({"fast": Preset(steps=4)}, {"device": "cpu"}, [{"steps": 4, "speed": 0.5}])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "tuned"))
    return tmp_path / "tuned"


def test_written_read_and_forgotten(tiny_bundle: Bundle) -> None:
    assert read_tuned(tiny_bundle) is None
    assert with_tuned(tiny_bundle) is tiny_bundle
    assert not forget_tuned(tiny_bundle)
    path = write_tuned(tiny_bundle, TUNED)
    assert path == tuned_file(tiny_bundle)
    found = read_tuned(tiny_bundle)
    assert found is not None
    assert (found.presets, found.measured, list(found.curve)) == (TUNED.presets, TUNED.measured, TUNED.curve)
    assert with_tuned(tiny_bundle).presets["fast"].steps == 4
    assert forget_tuned(tiny_bundle)
    assert read_tuned(tiny_bundle) is None


def test_a_folder_that_cannot_be_written_leaves_nothing(tiny_bundle: Bundle, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(OutputError, match="the tuned presets cannot be written to"):
        write_tuned(tiny_bundle, TUNED)
    assert folder.read_text() == "a file"


def test_a_sidecar_that_cannot_be_deleted_is_named(tiny_bundle: Bundle) -> None:
    tuned_file(tiny_bundle).mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be deleted"):
        forget_tuned(tiny_bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "it has schema 99"),
        ({"bundle": "0" * 64}, "is for 000000000000"),
        ({"presets": {"fast": {"steps": "many"}}}, "are malformed"),
        ({"presets": {"fast": {"variant": "nobody"}}}, "do not fit the bundle"),
        ({"presets": None}, "are malformed"),
        ({"curve": None}, "are malformed"),
    ],
)
def test_a_sidecar_of_another_kind_is_refused(tiny_bundle: Bundle, change: dict[str, Any], message: str) -> None:
    path = write_tuned(tiny_bundle, TUNED)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=message):
        with_tuned(tiny_bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_sidecar_is_refused(tiny_bundle: Bundle, content: bytes) -> None:
    path = write_tuned(tiny_bundle, TUNED)
    path.write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read"):
        read_tuned(tiny_bundle)


@pytest.mark.skipif(sys.platform == "win32", reason="the caches of Linux and macOS")
def test_it_lies_in_the_users_cache(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuned_file(tiny_bundle) == tmp_path / "emo_rt" / "tuned" / f"{tiny_bundle.sha256}.json"
