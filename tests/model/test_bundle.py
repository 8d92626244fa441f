"""Opening a bundle: whatever is wrong with it gives the right typed error, with words that help."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_rt import Animator, Bundle
from emo_rt.errors import BundleError, BundleIntegrityError, BundleVersionError, EmoRtError
from emo_rt.model import bundle as bundle_module
from emo_rt.model.bundle import MANIFEST, SCHEMA_VERSION, write_manifest
from emo_rt.model.families.registry import graph_specs
from emo_rt.model.onnx_files import external_locations
from tests.model.test_onnx_files import external_tensor

quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return content


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = manifest(folder)
    edit(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def weight_file(folder: Path, graph: str = "step") -> str:
    """Name of the largest weight file of a graph, from the bundle's folder on."""
    found = external_locations(folder / f"graphs/{graph}.onnx")
    return max((f"graphs/{name}" for name in found), key=lambda name: (folder / name).stat().st_size)


def rewrite_manifest(folder: Path) -> None:
    """Make the hashes fit what is in the folder now."""
    content = manifest(folder)
    del content["schema"], content["files"]
    write_manifest(folder, content)


def test_a_bundle_knows_its_config_graphs_and_size(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.config.name == "tiny"
    assert dict(tiny_bundle.graphs) == {g.name: g for g in graph_specs(tiny_bundle.config, guidance=(True, False))}
    on_disk = [path for path in tiny_bundle.path.rglob("*") if path.is_file() and path.name != MANIFEST]
    assert tiny_bundle.size_bytes == sum(path.stat().st_size for path in on_disk)
    assert tiny_bundle.dtype == tiny_bundle.weights == "float32"


def test_a_bundle_moves_with_its_folder(bundle_copy: Path) -> None:
    moved = bundle_copy.rename(bundle_copy.with_name("moved"))
    assert Bundle.open(str(moved)).graph_path("step").is_file()


@pytest.mark.parametrize("graph", [True, False])
def test_a_changed_file_is_found_by_its_hash(bundle_copy: Path, graph: bool) -> None:
    target = "graphs/step.onnx" if graph else weight_file(bundle_copy)
    content = bytearray((bundle_copy / target).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_copy / target).write_bytes(content)
    with pytest.raises(BundleIntegrityError, match=rf"{target} does not have the hash in the manifest"):
        Bundle.open(bundle_copy)


def test_without_verification_hashes_are_not_compared(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["files"]["graphs/step.onnx"].update(sha256="0" * 64))
    assert Bundle.open(bundle_copy, verify=False).config.name == "tiny"


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_of_another_size_is_refused(bundle_copy: Path, verify: bool) -> None:
    with (bundle_copy / weight_file(bundle_copy)).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleIntegrityError, match=r"\.bin has \d+ bytes, the manifest says \d+"):
        Bundle.open(bundle_copy, verify=verify)


def test_a_missing_file_is_named(bundle_copy: Path) -> None:
    (bundle_copy / "graphs/clip.onnx").unlink()
    with pytest.raises(BundleIntegrityError, match=r"clip\.onnx is missing; export or download the bundle again"):
        Bundle.open(bundle_copy)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*: it has no emo_rt\.json; `emo-rt export` writes one"):
        Bundle.open(tmp_path)


def test_a_folder_that_does_not_exist_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        Bundle.open(tmp_path / "nowhere")


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="cannot read"):
        Bundle.open(tmp_path / "model.onnx")


def test_a_newer_schema_says_to_update(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m.update(schema=SCHEMA_VERSION + 1, surprise=[]))
    with pytest.raises(BundleVersionError, match=rf"schema version {SCHEMA_VERSION + 1}, .* update emo_rt"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_manifest_is_refused(bundle_copy: Path, share: float) -> None:
    text = (bundle_copy / MANIFEST).read_text()
    (bundle_copy / MANIFEST).write_text(text[: int(share * len(text))])
    with pytest.raises(BundleError, match=r"cannot read .*emo_rt\.json"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"schema": "1"}'])
def test_other_json_is_no_manifest(bundle_copy: Path, text: str) -> None:
    (bundle_copy / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="has no schema version"):
        Bundle.open(bundle_copy)


def test_endlessly_nested_json_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / MANIFEST).write_text("[" * 200_000)
    with pytest.raises(BundleError, match="cannot read"):
        Bundle.open(bundle_copy)


KEYS = [
    "config",
    "dtype",
    "weights",
    "graphs",
    "variants",
    "presets",
    "default_preset",
    "files",
    "provenance",
    "parity",
]
"""Parts of a manifest."""


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_part_of_the_manifest_is_named(bundle_copy: Path, key: str) -> None:
    edit_manifest(bundle_copy, lambda m: m.pop(key))
    with pytest.raises(BundleError, match=rf"emo_rt\.json is malformed: it has no '{key}'; export the bundle again"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [None, 3, "text", ["a"], {"a": 1}])
def test_a_part_of_another_type_is_a_typed_error(bundle_copy: Path, key: str, value: Any) -> None:
    edit_manifest(bundle_copy, lambda m: m.update({key: value}))
    try:
        Bundle.open(bundle_copy)
    except BundleError as error:
        assert "export" in str(error) or "manifest" in str(error)  # noqa: PT017
    else:
        assert key in ("provenance", "parity")


def test_a_setting_out_of_range_is_named_with_its_range(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["config"].update(fps=0))
    with pytest.raises(BundleError, match=r"fps is 0; expected 1 … 120"):
        Bundle.open(bundle_copy)


UNSAFE = [
    "/etc/passwd",
    "../outside.bin",
    "graphs/../../outside.bin",
    "graphs\\..\\..\\outside.bin",
    "graphs//etc/passwd",
    "graphs/./step.bin",
    "C:/outside.bin",
    "C:outside.bin",
    "~/outside.bin",
    "",
    ".",
    "graphs/",
    "graphs/step.bin\0",
    "graphs/*/_ORT_MEM_ADDR_/*",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_file_name_that_could_lead_outside_is_refused(bundle_copy: Path, name: str) -> None:
    edit_manifest(bundle_copy, lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))
    with pytest.raises(BundleIntegrityError, match="not a plain path inside the bundle"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("name", ["/etc/step", "../step", "a/step", "C:step", "step.onnx", ""])
def test_a_graph_name_that_could_lead_outside_is_refused(bundle_copy: Path, name: str) -> None:
    edit_manifest(bundle_copy, lambda m: m["graphs"].update({name: m["graphs"]["step"]}))
    with pytest.raises(BundleIntegrityError, match=r"the manifest has a graph .*; expected letters, digits and '_'"):
        Bundle.open(bundle_copy)


def test_a_symbolic_link_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    weights = bundle_copy / weight_file(bundle_copy)
    outside = shutil.move(weights, tmp_path / "outside.bin")
    weights.symlink_to(outside)
    with pytest.raises(BundleIntegrityError, match=r"\.bin is a symbolic link; a bundle holds real files only"):
        Bundle.open(bundle_copy)


def test_a_linked_folder_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    outside = shutil.move(bundle_copy / "graphs", tmp_path / "outside")
    (bundle_copy / "graphs").symlink_to(outside)
    with pytest.raises(BundleIntegrityError, match="is a symbolic link"):
        Bundle.open(bundle_copy)


def test_a_bundle_may_itself_be_reached_through_a_link(bundle_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle_copy)
    assert Bundle.open(tmp_path / "link").config.name == "tiny"


def test_a_second_hard_link_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    os.link(bundle_copy / weight_file(bundle_copy), tmp_path / "also.bin")
    with pytest.raises(BundleIntegrityError, match=r"\.bin is not a regular file with a single hard link"):
        Bundle.open(bundle_copy)


def test_the_bundle_inside_the_package_may_be_hard_linked(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(bundle_copy / weight_file(bundle_copy), tmp_path / "also.bin")
    monkeypatch.setattr(bundle_module, "DEMO_FOLDER", bundle_copy)
    monkeypatch.chdir(tmp_path)
    assert Bundle.open("demo").path == bundle_copy


def test_a_folder_called_demo_that_is_no_bundle_does_not_hide_the_demo(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "DEMO_FOLDER", bundle_copy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert Bundle.open("demo").path == bundle_copy


def test_a_bundle_called_demo_is_preferred(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_copy.parent)
    bundle_copy.rename("demo")
    assert Bundle.open("demo").path == Path("demo")


def test_a_graph_without_its_file_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "graphs/clip.onnx").unlink()
    rewrite_manifest(bundle_copy)
    with pytest.raises(BundleIntegrityError, match=r"has graph 'clip' but no file graphs/clip\.onnx"):
        Bundle.open(bundle_copy)


def point_outside(folder: Path, location: str) -> None:
    path = folder / "graphs/clip.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.append(external_tensor(location))
    path.write_bytes(model.SerializeToString())
    rewrite_manifest(folder)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../outside.bin", "other.bin", "", "./clip.bin", "..\\outside.bin"]
)
def test_a_graph_that_refers_to_another_file_is_refused(bundle_copy: Path, location: str) -> None:
    point_outside(bundle_copy, location)
    with pytest.raises(BundleIntegrityError) as error:
        Bundle.open(bundle_copy)
    assert f"graphs/clip.onnx refers to {location!r}, which is not a file of this bundle" in str(error.value)


def test_a_file_that_is_no_graph_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "graphs/clip.onnx").write_bytes(b"\xff" * 20)
    rewrite_manifest(bundle_copy)
    with pytest.raises(BundleIntegrityError, match=r"clip\.onnx is not a readable ONNX file"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("graph", ["vae_encoder", "audio_encoder", "reference", "clip", "timestep", "vae_decoder"])
def test_a_bundle_that_lacks_a_graph_cannot_be_loaded(bundle_copy: Path, graph: str) -> None:
    edit_manifest(bundle_copy, lambda m: m["graphs"].pop(graph))
    with pytest.raises(BundleError, match=rf"has no graph {graph}; export it again"):
        Animator.load(bundle_copy, device="cpu")


def test_a_bundle_without_any_step_cannot_be_loaded(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: (m["graphs"].pop("step"), m["graphs"].pop("step_unguided")))
    with pytest.raises(BundleError, match="has no graph step; export it again"):
        Animator.load(bundle_copy, device="cpu")


def test_the_manifest_is_written_last_and_whole(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs/a.bin").write_bytes(b"abc")
    write_manifest(tmp_path, {"dtype": "float32"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "graphs"]
    assert manifest(tmp_path) == {
        "schema": SCHEMA_VERSION,
        "dtype": "float32",
        "files": {
            "graphs/a.bin": {
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "bytes": 3,
            }
        },
    }


def test_a_weight_file_is_named_by_its_content(bundle_copy: Path) -> None:
    """Else one that is there could not be told from the one that a bundle names."""
    name = weight_file(bundle_copy)
    (bundle_copy / name).rename(bundle_copy / "graphs/0123456789abcdef.bin")
    rewrite_manifest(bundle_copy)
    with pytest.raises(
        BundleIntegrityError, match=rf"'graphs/0123456789abcdef\.bin'; by its hash its name is '{name}'"
    ):
        Bundle.open(bundle_copy)


OFFERS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("default_preset is 'best'; expected one of quality", lambda m: m.update(default_preset="best")),
    ("variant of preset fast is 'other'; expected one of base", lambda m: m["presets"]["fast"].update(variant="other")),
    ("ladder of preset fast", lambda m: m["presets"]["fast"].update(ladder=["faster"])),
    ("variant of graph step is 'other'", lambda m: m["graphs"]["step"].update(variant="other")),
    ("steps is 0; expected an integer", lambda m: m["presets"]["fast"].update(steps=0)),
    ("unknown setting colour", lambda m: m["presets"]["fast"].update(colour=1)),
    ("description of graph 'step' is malformed", lambda m: m["graphs"]["step"].update(guided="yes")),
    ("description of graph 'step' is malformed", lambda m: m["graphs"]["step"].update(colour=1)),
]


@pytest.mark.parametrize(("message", "edit"), OFFERS, ids=[message for message, _ in OFFERS])
def test_an_offer_that_cannot_be_kept_is_refused(
    bundle_copy: Path, message: str, edit: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(bundle_copy, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle_copy)


@quick
@given(content=st.binary(max_size=100))
def test_a_manifest_of_garbage_is_a_typed_error(bundle_copy: Path, content: bytes) -> None:
    (bundle_copy / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.open(bundle_copy, verify=False)


@quick
@given(data=st.data())
def test_a_damaged_manifest_is_refused_or_harmless(bundle_copy: Path, tiny_bundle: Bundle, data: st.DataObject) -> None:
    text = bytearray((tiny_bundle.path / MANIFEST).read_bytes())
    start = data.draw(st.integers(0, len(text)))
    text[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    (bundle_copy / MANIFEST).write_bytes(text)
    try:
        assert isinstance(Bundle.open(bundle_copy, verify=False), Bundle)
    except EmoRtError as error:
        assert isinstance(error, BundleError)  # noqa: PT017
