"""Base and accelerated weights of EchoMimic in one bundle: an avatar speaks with either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import load_external_data_for_model

from emo_rt import Animator, Avatar, Box, Bundle, ClosedError
from emo_rt.device.graph_memory import GraphMemory
from emo_rt.errors import InputError
from emo_rt.model.bundle import GRAPHS_FOLDER, MANIFEST, write_manifest
from emo_rt.model.contract import Array
from emo_rt.model.families.echomimic import offers
from emo_rt.model.options import AnimateOptions
from emo_rt.model.weight_files import name_by_content
from emo_rt.runtime.gpu_memory import memory_need
from emo_rt.runtime.live.ladder import Ladder

OWN = ("reference", "timestep", "predict_unguided")
"""Graphs of which the accelerated weights have their own."""
FAST = {"steps": 2, "guidance": 1.0, "paste_back": False}


def make(source: Bundle, folder: Path, is_alone: bool) -> Path:
    """The bundle with accelerated weights: the base ones, with one large tensor of each graph made smaller.

    ``is_alone``: in the place of the base weights, in the way of ``--accelerated``.
    """
    shutil.copytree(source.path, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in OWN:
        _write_changed(folder / GRAPHS_FOLDER, name, name if is_alone else f"{name}_accelerated")
        if not is_alone:
            manifest["graphs"][f"{name}_accelerated"] = {**manifest["graphs"][name], "variant": "accelerated"}
            manifest["graphs"][f"{name}_accelerated"].setdefault("role", name)
    name_by_content(folder / GRAPHS_FOLDER)
    if is_alone:
        del manifest["graphs"]["predict"]
        (folder / GRAPHS_FOLDER / "predict.onnx").unlink()
    manifest |= offers(is_accelerated=is_alone, has_both=not is_alone)
    write_manifest(folder, {key: value for key, value in manifest.items() if key not in ("schema", "files")})
    return folder


def _write_changed(graphs: Path, name: str, target: str) -> None:
    model = onnx.load(graphs / f"{name}.onnx", load_external_data=False)
    values = onnx.load(graphs / f"{name}.onnx", load_external_data=False)
    load_external_data_for_model(values, str(graphs))
    places = range(len(model.graph.initializer))
    changed = max(places, key=lambda i: values.graph.initializer[i].ByteSize())
    data = (onnx.numpy_helper.to_array(values.graph.initializer[changed]) * np.float32(0.5)).tobytes()
    (graphs / f"{name}_changed.bin").write_bytes(data)
    tensor = model.graph.initializer[changed]
    del tensor.external_data[:]
    for key, value in (("location", f"{name}_changed.bin"), ("offset", "0"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    (graphs / f"{target}.onnx").write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def folder(echomimic_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(echomimic_bundle, tmp_path_factory.mktemp("both") / "bundle", is_alone=False)


@pytest.fixture
def animator(folder: Path) -> Iterator[Animator]:
    with Animator.load(folder, device="cpu", threads=1) as loaded:
        yield loaded


def prepared(animator: Animator) -> Avatar:
    picture = np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8)
    return animator.prepare(picture, face_box=Box(10, 10, 26, 30))


def frames(avatar: Avatar, animator: Animator, **options: Any) -> Array:
    sound = 0.1 * np.random.default_rng(1).standard_normal(6400, np.float32)
    return animator.animate(avatar, sound, sample_rate=16_000, **{**FAST, **options}).numpy()


@pytest.fixture(scope="module")
def alone(echomimic_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Array:
    """Frames of a bundle that has the accelerated weights alone."""
    path = make(echomimic_bundle, tmp_path_factory.mktemp("alone") / "bundle", is_alone=True)
    with Animator.load(path, device="cpu", threads=1) as accelerated:
        return frames(prepared(accelerated), accelerated)


def test_each_preset_gives_what_a_bundle_of_its_own_gives(
    animator: Animator, echomimic_bundle: Bundle, alone: Array
) -> None:
    fast, quality = animator.resolve(preset="fast"), animator.resolve()
    assert (fast.variant, fast.steps, fast.guidance) == ("accelerated", 6, 1.0)
    assert (quality.variant, quality.steps, quality.guidance) == ("base", 30, 2.5)
    avatar = prepared(animator)
    with Animator.load(echomimic_bundle.path, device="cpu", threads=1) as base:
        expected = frames(prepared(base), base)
    np.testing.assert_array_equal(frames(avatar, animator, preset="fast"), alone)
    np.testing.assert_array_equal(frames(avatar, animator), expected)
    np.testing.assert_array_equal(frames(avatar, animator, preset="fast"), alone)
    assert not np.array_equal(alone, expected)


def test_the_second_reference_is_opened_and_run_when_it_is_needed(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    backend = avatar_backend(animator)
    open_graph = backend.open
    monkeypatch.setattr(backend, "open", lambda bundle, name: opened.append(name) or open_graph(bundle, name))
    avatar = prepared(animator)
    alone_bytes = avatar.nbytes
    frames(avatar, animator)
    assert opened == ["predict_unguided"]
    frames(avatar, animator, preset="fast")
    assert set(opened[1:]) == {"predict_unguided_accelerated", "reference_accelerated"}
    assert avatar.nbytes == 2 * alone_bytes
    frames(avatar, animator, preset="fast")
    assert len(opened) == 3
    assert animator.memory_stats()["avatars"] == 2 * alone_bytes


def avatar_backend(animator: Animator) -> Any:
    return animator._model.backend


def test_an_avatar_from_a_file_speaks_with_either(animator: Animator, alone: Array, tmp_path: Path) -> None:
    first = prepared(animator)
    expected = frames(first, animator)
    first.save(tmp_path / "face.avatar")
    loaded = animator.load_avatar(tmp_path / "face.avatar")
    np.testing.assert_array_equal(frames(loaded, animator, preset="fast"), alone)
    np.testing.assert_array_equal(frames(loaded, animator), expected)


def test_a_file_without_what_the_second_variant_needs_is_refused(animator: Animator, tmp_path: Path) -> None:
    prepared(animator).save(tmp_path / "face.avatar")
    with np.load(tmp_path / "face.avatar") as stored:
        kept = {name: stored[name] for name in stored.files if not name.startswith("input:")}
    with (tmp_path / "less.avatar").open("wb") as file:
        np.savez(file, **kept)
    with pytest.raises(InputError, match="input:face_mask is missing"):
        animator.load_avatar(tmp_path / "less.avatar")


def test_a_closed_avatar_makes_no_features(animator: Animator) -> None:
    avatar = prepared(animator)
    frames(avatar, animator, preset="fast")
    others = list(avatar._of_others.values())
    avatar.close()
    assert all(features.is_closed for features in others)
    fresh = prepared(animator)
    fresh.close()
    with pytest.raises(ClosedError, match="avatar was closed"):
        fresh.features_of("accelerated")


def test_an_avatar_that_is_closed_while_it_makes_features_keeps_none(animator: Animator) -> None:
    avatar = prepared(animator)

    def run(slices: Any) -> Any:
        made = None
        try:
            while True:
                next(slices)
        except StopIteration as end:
            made = end.value
        avatar.close()
        return made

    with pytest.raises(ClosedError):
        avatar.features_of("accelerated", run)
    assert all(features.is_closed for features in avatar._of_others.values())


def test_memory_is_reckoned_for_the_graphs_of_the_preset(folder: Path) -> None:
    bundle, asked = Bundle.open(folder), list[str]()

    def reckon(of: Bundle, name: str) -> GraphMemory:
        asked.append(name)
        return GraphMemory(1, 1)

    for preset, own in (("quality", set()), ("fast", {"reference_accelerated", "predict_unguided_accelerated"})):
        asked.clear()
        memory_need(bundle, AnimateOptions(preset=preset), reckon)
        on_demand = {name for name in asked if bundle.graphs[name].is_on_demand}
        assert on_demand == (own or {"predict"})


def test_a_live_session_steps_down_to_the_accelerated_weights(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rung has the features of its own variant; clips of either continue the other's frames."""
    avatar = prepared(animator)
    monkeypatch.setattr(Ladder, "note", lambda *_: None)  # no step by itself, however slow the machine is
    with animator.live(avatar, steps=1, pace="asap", paste_back=False) as session:
        maker = session._maker
        assert [rung.name for rung in maker.rungs] == ["quality", "fast"]
        quality, fast = (rung.features for rung in maker.rungs)
        assert (quality, fast) == (avatar.features, avatar.features_of("accelerated"))
        assert quality is not fast
        clips: list[tuple[str, ...]] = []
        for rung in (*maker.rungs, *maker.rungs):
            session._ladder.at = maker.rungs.index(rung)
            clips += [maker._table.graphs for _ in (next(session) for _ in range(8))]
    assert {"predict", "predict_unguided_accelerated"} <= {graph for graphs in clips for graph in graphs}
