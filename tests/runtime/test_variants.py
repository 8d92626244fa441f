"""A bundle with two ways to step: a teacher, and a student that was distilled from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import load_external_data_for_model

from emo_rt import Animator, Bundle, ConfigError
from emo_rt.device.stream import stream_of
from emo_rt.errors import BundleError
from emo_rt.model.bundle import GRAPHS_FOLDER, MANIFEST, write_manifest
from emo_rt.model.weight_files import name_by_content

STUDENT = {"variant": "distilled", "solver": "euler", "steps": 1}
OWN = ("step_unguided", "clip", "timestep")
"""Graphs that hold weights of the student."""


@pytest.fixture(scope="module")
def student_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a student: its weights are the teacher's, a tenth smaller in one matrix of each graph."""
    folder = tmp_path_factory.mktemp("student") / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in OWN:
        _write_student(folder / GRAPHS_FOLDER, name)
        manifest["graphs"][f"{name}_distilled"] = {**manifest["graphs"][name], "variant": "distilled"}
    name_by_content(folder / GRAPHS_FOLDER)
    manifest["variants"]["distilled"] = {"solvers": ["euler"], "steps": [1, 2], "guidance": [1, 1]}
    manifest["presets"]["live"] = STUDENT
    manifest["presets"]["realtime"]["ladder"] = ["live"]
    write_manifest(folder, {key: value for key, value in manifest.items() if key not in ("schema", "files")})
    return folder


def _write_student(graphs: Path, name: str) -> None:
    """Beside the teacher's graph: the same with one weight changed, which lies in a file of its own."""
    path = graphs / f"{name}.onnx"
    model = onnx.load(path, load_external_data=False)
    with_values = onnx.load(path, load_external_data=False)
    load_external_data_for_model(with_values, str(graphs))
    changed = max(range(len(model.graph.initializer)), key=lambda i: with_values.graph.initializer[i].ByteSize())
    tensor, values = model.graph.initializer[changed], with_values.graph.initializer[changed]
    data = onnx.numpy_helper.to_array(values) * np.float32(0.9)
    (graphs / f"{name}_student.bin").write_bytes(data.tobytes())
    del tensor.external_data[:]
    for key, value in (("location", f"{name}_student.bin"), ("offset", "0"), ("length", str(data.nbytes))):
        tensor.external_data.add(key=key, value=value)
    (graphs / f"{name}_distilled.onnx").write_bytes(model.SerializeToString())


def frames(animator: Animator, **options: Any) -> np.ndarray:
    picture = np.random.default_rng(4).integers(0, 255, (48, 48, 3), np.uint8)
    sound = np.random.default_rng(3).standard_normal(4000, np.float32) * 0.1
    with animator.prepare(picture, face_box="full") as avatar:
        return animator.animate(avatar, sound, sample_rate=16_000, **options).numpy()


def test_a_student_shares_what_it_does_not_change(student_bundle: Path, tiny_bundle: Bundle) -> None:
    bundle = Bundle.open(student_bundle)
    weights = {name for name in bundle.files if name.endswith(".bin")}
    assert {name for name in tiny_bundle.files if name.endswith(".bin")} < weights
    assert len(weights) - sum(name.endswith(".bin") for name in tiny_bundle.files) <= len(OWN)
    assert bundle.find("vae_decoder", "distilled") == "vae_decoder"
    assert bundle.find("clip", "distilled") == "clip_distilled"
    assert bundle.find("step", "distilled", guided=True) is None


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_preset_runs_its_variant(student_bundle: Path, backend: str) -> None:
    pytest.importorskip(backend)
    with Animator.load(student_bundle, device="cpu", backend=backend, threads=1) as animator:
        live = animator.resolve(preset="live")
        assert (live.variant, live.solver, live.steps, live.guidance) == ("distilled", "euler", 1, 1.0)
        student = frames(animator, preset="live")
        teacher = frames(animator, preset="realtime", solver="euler", steps=1, guidance=1.0)
        assert not np.array_equal(student, teacher)
        np.testing.assert_array_equal(frames(animator, preset="live"), student)


def test_the_teacher_is_not_touched_by_its_student(student_bundle: Path, tiny_animator: Animator) -> None:
    with Animator.load(student_bundle, device="cpu", threads=1) as animator:
        np.testing.assert_array_equal(frames(animator, steps=2), frames(tiny_animator, steps=2))


def test_a_student_refuses_what_it_was_not_made_for(student_bundle: Path) -> None:
    with Animator.load(student_bundle, device="cpu", threads=1) as animator:
        with pytest.raises(ConfigError, match="steps is 40; expected 1 … 2: the variant 'distilled'"):
            animator.resolve(preset="live", steps=40)
        with pytest.raises(ConfigError, match=r"guidance is 3\.0"):
            animator.resolve(preset="live", guidance=3.0)


def test_a_variant_without_steps_cannot_be_loaded(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    manifest["variants"]["distilled"] = {}
    (bundle_copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="has no graph step"):
        Animator.load(bundle_copy, device="cpu")


def test_what_steps_with_no_weights_serves_all_variants(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    manifest["graphs"]["vae_decoder"]["variant"] = "base"
    (bundle_copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="graph vae_decoder is of the variant 'base' alone"):
        Animator.load(bundle_copy, device="cpu")


def test_streams_go_by_role(student_bundle: Path) -> None:
    graphs = Bundle.open(student_bundle).graphs
    assert {stream_of(graphs[name].role) for name in ("step", "step_unguided_distilled", "clip_distilled")} == {
        "denoise"
    }
