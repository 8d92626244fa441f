"""Bundles of schema 1: they open as they are, and can be converted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, Bundle
from emo_rt.errors import BundleError, BundleIntegrityError, OutputError
from emo_rt.model.bundle import MANIFEST
from emo_rt.model.onnx_files import external_locations, renamed_locations
from emo_rt.model.presets import STANDARD_PRESETS
from emo_rt.model.upgrade import upgrade_bundle

NEW_IN_GRAPHS = ("role", "variant", "guided", "cached")
NEW = ("variants", "presets", "default_preset")
"""What schema 1 did not say."""


def as_schema_1(bundle: Bundle, target: Path) -> Path:
    """The bundle as an emo_rt before schema 2 would have written it: weight files named after graphs."""
    shutil.copytree(bundle.path, target)
    data = json.loads((target / MANIFEST).read_text())
    data["schema"] = 1
    data["config"].pop("family")
    for key in NEW:
        data.pop(key)
    for graph in data["graphs"].values():
        for key in NEW_IN_GRAPHS:
            graph.pop(key, None)
    names = {old: f"weights_{index}.bin" for index, old in enumerate(_weight_files(bundle))}
    for path in (target / "graphs").glob("*.onnx"):
        path.write_bytes(renamed_locations(path, names))
    for old, new in names.items():
        (target / "graphs" / old).rename(target / "graphs" / new)
    data["files"] = {f"graphs/{path.name}": _entry(path) for path in sorted((target / "graphs").iterdir())}
    (target / MANIFEST).write_text(json.dumps(data))
    return target


def _weight_files(bundle: Bundle) -> list[str]:
    return sorted(set().union(*(external_locations(bundle.graph_path(name)) for name in bundle.graphs)))


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frames(bundle: Path, **options: Any) -> np.ndarray:
    sound = np.random.default_rng(3).standard_normal(4000, np.float32) * 0.1
    picture = np.random.default_rng(4).integers(0, 255, (48, 48, 3), np.uint8)
    with Animator.load(bundle, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture, face_box="full")
        return animator.animate(avatar, sound, sample_rate=16_000, steps=2, **options).numpy()


@pytest.fixture
def old(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return as_schema_1(tiny_bundle, tmp_path / "old")


def test_an_old_bundle_opens_and_names_the_command(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = Bundle.open(old)
    assert (bundle.schema, bundle.config.family, bundle.default_preset) == (1, "emo", "quality")
    assert dict(bundle.presets) == dict(STANDARD_PRESETS)
    with caplog.at_level(logging.WARNING):
        Animator.load(old, device="cpu").close()
    assert f"emo-rt export --upgrade {old} -o NEW_FOLDER" in caplog.text


def test_an_old_bundle_is_read_as_what_the_exporter_writes_today(old: Path, tiny_bundle: Bundle) -> None:
    bundle = Bundle.open(old)
    assert (bundle.config, dict(bundle.graphs)) == (tiny_bundle.config, dict(tiny_bundle.graphs))
    assert dict(bundle.variants) == dict(tiny_bundle.variants)


def test_an_old_hallo_bundle_is_of_that_family(hallo_bundle: Bundle, tmp_path: Path) -> None:
    assert Bundle.open(as_schema_1(hallo_bundle, tmp_path / "old")).config == hallo_bundle.config


def test_a_converted_bundle_is_the_one_that_the_exporter_writes_today(
    old: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    before = content(old)
    converted = upgrade_bundle(old, tmp_path / "new")
    assert content(old) == before
    assert content(converted.path) == content(tiny_bundle.path)
    assert converted.outdated is None


def test_old_and_converted_give_the_same_frames(old: Path, tmp_path: Path) -> None:
    upgrade_bundle(old, tmp_path / "new")
    np.testing.assert_array_equal(frames(old), frames(tmp_path / "new"))


def test_weight_files_with_the_same_content_become_one(old: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Two graphs with weights of their own that are equal: an exporter need not know that they are."""
    graph = old / "graphs/step.onnx"
    shared = max(external_locations(graph), key=lambda name: (old / "graphs" / name).stat().st_size)
    shutil.copyfile(old / "graphs" / shared, old / "graphs/copy.bin")
    graph.write_bytes(renamed_locations(graph, {shared: "copy.bin"}))
    data = json.loads((old / MANIFEST).read_text())
    data["files"] = {f"graphs/{path.name}": _entry(path) for path in sorted((old / "graphs").iterdir())}
    (old / MANIFEST).write_text(json.dumps(data))
    assert content(upgrade_bundle(old, tmp_path / "new").path) == content(tiny_bundle.path)


def test_what_is_up_to_date_is_not_converted(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has schema 2 already"):
        upgrade_bundle(tiny_bundle.path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_damaged_bundle_is_not_converted(old: Path, tmp_path: Path) -> None:
    with (old / "graphs/weights_0.bin").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(BundleIntegrityError):
        upgrade_bundle(old, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_folder_in_use_is_not_overwritten(old: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").touch()
    with pytest.raises(OutputError, match="not an empty folder"):
        upgrade_bundle(old, tmp_path / "new")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_that_cannot_be_written(old: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot write"):
        upgrade_bundle(old, tmp_path / "locked/new")


def test_conversion_needs_neither_torch_nor_onnx(old: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnx_ir', 'onnxruntime')));"
        "from emo_rt.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "export", "--upgrade", str(old), "-o", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "schema 2" in done.stdout
    assert Bundle.open(tmp_path / "new").schema == 2
