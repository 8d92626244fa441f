"""Plans on disk: why one is stale, which is found, and what is refused because others could have written it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.device.tensorrt import owned_files
from emo_rt.device.tensorrt import plan as plans
from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.device.tensorrt.package import TensorRT
from emo_rt.device.tensorrt.plan import (
    Plan,
    PlanKey,
    PlanRecord,
    build_folder,
    engine_folders,
    find_plan,
    plans_in,
    stale_reason,
)
from emo_rt.errors import EngineIntegrityError, EngineStaleError
from emo_rt.model.onnx_files import external_locations

RTX = TensorRT("tensorrt_rtx", "1.7.1.116", SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
CARD = Gpu("NVIDIA GeForce RTX 4090", "sm89")
OPTIONS = {"optimization_level": 3, "workspace_mib": None, "strip_weights": False}
CONTENT = b"not really a plan"


@pytest.fixture
def bundle(bundle_copy: Path) -> Bundle:
    return Bundle.open(bundle_copy)


@pytest.fixture(autouse=True)
def no_outer_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plans.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def key_of(bundle: Bundle, graph: str = "step", **changes: Any) -> PlanKey:
    return replace(PlanKey.of(bundle, graph, RTX, ["sm89"], None, OPTIONS), **changes)


def record_of(key: PlanKey) -> PlanRecord:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return PlanRecord(key, f"{key.stem}.plan", digest, len(CONTENT), "0.1.0", 1.0, None, {"layers": 3})


def put(folder: Path, key: PlanKey) -> Plan:
    """A plan and its sidecar as a build leaves them."""
    record = record_of(key)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in ((record.file, CONTENT), (f"{key.stem}.json", record.to_json().encode())):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    return Plan(folder, record)


class TestStaleReason:
    def test_none_for_what_it_was_built_from(self, bundle: Bundle) -> None:
        assert stale_reason(record_of(key_of(bundle)), key_of(bundle)) is None

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"graph": "clip"}, "graph step, wanted is clip"),
            ({"graph_sha256": "ab" * 32}, "the graph or its weights changed"),
            ({"package": "tensorrt"}, "built with tensorrt_rtx, wanted is tensorrt"),
            ({"package_version": "1.8.0.1"}, "built with tensorrt_rtx 1.7.1.116, here is 1.8.0.1"),
            ({"precision": "float16"}, "computes in float32, wanted is float16"),
            ({"capabilities": ("sm120",)}, "built for sm89, wanted is sm120"),
            ({"capabilities": ("sm89", "sm120")}, "built for sm89, wanted is sm89, sm120"),
            ({"shapes": {"waveform": ((1, 1), (1, 2), (1, 3))}}, 'wanted is {"waveform": [[1, 1], [1, 2], [1, 3]]}'),
            ({"options": {**OPTIONS, "optimization_level": 5}}, '"optimization_level": 5'),
        ],
    )
    def test_in_words(self, bundle: Bundle, change: dict[str, Any], words: str) -> None:
        assert words in (stale_reason(record_of(key_of(bundle)), key_of(bundle, **change)) or "")

    def test_plan_that_was_tuned_on_one_gpu_serves_no_other(self, bundle: Bundle) -> None:
        tuned = record_of(key_of(bundle, gpu="NVIDIA L4"))
        assert stale_reason(tuned, key_of(bundle, gpu="NVIDIA L4")) is None
        reason = stale_reason(tuned, key_of(bundle, gpu=CARD.name))
        assert reason == f"it was built for NVIDIA L4 (sm89), wanted is {CARD.name} (sm89)"

    def test_plan_for_kinds_of_gpu_serves_each(self, bundle: Bundle) -> None:
        portable = record_of(key_of(bundle, capabilities=("sm86", "sm89")))
        assert stale_reason(portable, key_of(bundle, gpu=CARD.name)) is None

    def test_any_options_will_do_for_running(self, bundle: Bundle) -> None:
        other = key_of(bundle, options={**OPTIONS, "optimization_level": 0})
        assert stale_reason(record_of(other), key_of(bundle, options=None)) is None

    def test_weights_are_part_of_the_graph(self, bundle: Bundle) -> None:
        files = {name: dict(entry) for name, entry in bundle.files.items()}
        weights = min(external_locations(bundle.graph_path("step")))
        files[f"graphs/{weights}"]["sha256"] = "cd" * 32
        changed = replace(bundle, files=files)
        assert plans.graph_hash(changed, "step") != plans.graph_hash(bundle, "step")
        assert plans.graph_hash(changed, "vae_decoder") == plans.graph_hash(bundle, "vae_decoder")

    def test_profile_holds_a_window(self, bundle: Bundle, hallo_bundle: Bundle) -> None:
        assert plans.profile_shapes(bundle, "step") == {}
        (smallest, usual, largest) = plans.profile_shapes(bundle, "audio_encoder")["waveform"]
        assert smallest < usual == (1, 12 * 640) < largest  # 12 frames at 25 a second
        whole = plans.profile_shapes(hallo_bundle, "audio_encoder")["waveform"]
        assert whole[2] == (1, 16_000 * plans.LONGEST_FILE_S)


class TestSidecar:
    def test_round_trip(self, bundle: Bundle) -> None:
        record = record_of(key_of(bundle, "audio_encoder", gpu="NVIDIA L4"))
        assert PlanRecord.from_json(record.to_json().encode(), Path("x.json")) == record

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data.update(schema=99),
            lambda data: data.pop("schema"),
            lambda data: data.pop("sha256"),
            lambda data: data.update(unknown=1),
            lambda data: data.update(key=[]),
            lambda data: data["key"].pop("shapes"),
            lambda data: data["key"].update(graph=7),
            lambda data: data.update(file="../step.plan"),
            lambda data: data.update(file="/etc/passwd"),
            lambda data: data.update(file="step.json"),
            lambda data: data.update(report=None),
        ],
    )
    def test_malformed(self, bundle: Bundle, damage: Callable[[dict[str, Any]], None]) -> None:
        data = json.loads(record_of(key_of(bundle)).to_json())
        damage(data)
        with pytest.raises(EngineIntegrityError, match="does not describe a plan"):
            PlanRecord.from_json(json.dumps(data).encode(), Path("x.json"))

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000])
    def test_no_sidecar_at_all(self, text: bytes) -> None:
        with pytest.raises(EngineIntegrityError, match="does not describe a plan"):
            PlanRecord.from_json(text, Path("x.json"))

    def test_names_of_files_are_plain(self, bundle: Bundle) -> None:
        key = key_of(bundle, gpu="NVIDIA RTX 6000 Ada/../Generation")
        assert re.fullmatch(r"[\w-]+", key.stem)


class TestFinding:
    def test_finds_and_reads(self, bundle: Bundle) -> None:
        plan = put(engine_folders(bundle)[0], key_of(bundle))
        found = find_plan(bundle, "step", RTX, CARD)
        assert found == plan
        assert found.read() == CONTENT
        assert not found.is_stripped

    def test_prefers_the_plan_for_fewest_kinds(self, bundle: Bundle) -> None:
        folder = engine_folders(bundle)[0]
        put(folder, key_of(bundle, capabilities=("sm86", "sm89", "sm120")))
        plan = put(folder, key_of(bundle))
        assert find_plan(bundle, "step", RTX, CARD) == plan

    def test_looks_in_every_place(self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(plans.CACHE_VARIABLE, str(tmp_path / "named"))
        folders = engine_folders(bundle)
        assert [folder.parent for folder in folders] == [
            tmp_path / "named",
            bundle.path,
            tmp_path / "cache" / "emo_rt" / "engines",
        ]
        for folder in reversed(folders):
            plan = put(folder, key_of(bundle))
            assert find_plan(bundle, "step", RTX, CARD) == plan
        assert find_plan(bundle, "step", RTX, CARD, tmp_path / "named") == plan

    def test_none_says_where_and_how(self, bundle: Bundle) -> None:
        with pytest.raises(EngineStaleError) as caught:
            find_plan(bundle, "step", RTX, CARD)
        assert str(engine_folders(bundle)[0]) in str(caught.value)
        assert f"emo-rt build {bundle.path} --package tensorrt_rtx" in str(caught.value)

    def test_stale_says_why_and_how(self, bundle: Bundle) -> None:
        put(engine_folders(bundle)[0], key_of(bundle, package_version="1.6.0.1"))
        put(engine_folders(bundle)[0], key_of(bundle, capabilities=("sm86",)))
        with pytest.raises(EngineStaleError) as caught:
            find_plan(bundle, "step", RTX, CARD)
        for words in ("1.6.0.1, here is 1.7.1.116", "built for sm86", "emo-rt build"):
            assert words in str(caught.value)

    def test_sidecar_of_a_newer_emo_rt_hides_no_other(self, bundle: Bundle) -> None:
        folder = engine_folders(bundle)[0]
        plan = put(folder, key_of(bundle))
        newer = put(folder, key_of(bundle, capabilities=("sm120",)))
        sidecar = folder / f"{newer.record.key.stem}.json"
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text(encoding="utf-8")), "schema": 2}))
        assert plans_in(folder) == [plan]
        assert find_plan(bundle, "step", RTX, CARD) == plan
        with pytest.raises(EngineStaleError, match="schema 2, this emo_rt reads 1"):
            find_plan(bundle, "step", RTX, Gpu("NVIDIA GeForce RTX 5090", "sm120"))

    def test_bundles_share_a_cache(self, bundle: Bundle, hallo_bundle: Bundle, tmp_path: Path) -> None:
        assert engine_folders(bundle, tmp_path) != engine_folders(hallo_bundle, tmp_path)
        moved = replace(bundle, path=tmp_path / "elsewhere")
        assert engine_folders(bundle, tmp_path) == engine_folders(moved, tmp_path)


class TestBuildFolder:
    def test_is_the_bundles_own(self, bundle: Bundle) -> None:
        assert build_folder(bundle) == bundle.path / "engines"

    def test_never_the_installed_package(self, tmp_path: Path) -> None:
        assert tmp_path in build_folder(Bundle.open("demo")).parents

    def test_not_where_it_cannot_write(self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert build_folder(bundle).parent == tmp_path / "cache" / "emo_rt" / "engines"

    def test_named_ones_first(self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(plans.CACHE_VARIABLE, str(tmp_path / "named"))
        assert build_folder(bundle).parent == tmp_path / "named"
        assert build_folder(bundle, tmp_path / "option").parent == tmp_path / "option"


class TestRefusals:
    """A plan is native code."""

    @pytest.fixture
    def plan(self, bundle: Bundle) -> Plan:
        return put(bundle.path / "engines", key_of(bundle))

    def test_changed_plan(self, plan: Plan) -> None:
        plan.path.write_bytes(CONTENT[::-1])
        with pytest.raises(EngineIntegrityError, match="sidecar vouches for"):
            plan.read()

    def test_absent_plan_and_folder(self, plan: Plan) -> None:
        plan.path.unlink()
        with pytest.raises(EngineIntegrityError, match="cannot read"):
            plan.read()
        with pytest.raises(EngineIntegrityError, match="is gone"):
            replace(plan, folder=plan.folder / "nowhere").read()

    def test_link_to_a_plan(self, plan: Plan, tmp_path: Path) -> None:
        moved = plan.path.rename(tmp_path / "moved.plan")
        plan.path.symlink_to(moved)
        with pytest.raises(EngineIntegrityError, match="is a link"):
            plan.read()
        plan.path.unlink()
        plan.path.hardlink_to(moved)
        with pytest.raises(EngineIntegrityError, match="single hard link"):
            plan.read()

    def test_something_that_is_no_file(self, plan: Plan) -> None:
        plan.path.unlink()
        plan.path.mkdir()
        with pytest.raises(EngineIntegrityError):
            plan.read()

    @pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
    def test_file_that_others_can_write(self, plan: Plan, mode: int) -> None:
        plan.path.chmod(mode)
        with pytest.raises(EngineIntegrityError, match=f"can be written by others.*{mode:o}.*chmod go-w"):
            plan.read()

    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
    def test_folder_that_others_can_write(self, plan: Plan, bundle: Bundle, mode: int) -> None:
        plan.folder.chmod(mode)
        with pytest.raises(EngineIntegrityError, match="chmod go-w"):
            plan.read()
        with pytest.raises(EngineIntegrityError, match="chmod go-w"):
            find_plan(bundle, "step", RTX, CARD)

    def test_sidecar_that_others_can_write(self, plan: Plan, bundle: Bundle) -> None:
        (plan.folder / f"{plan.record.key.stem}.json").chmod(0o666)
        with pytest.raises(EngineIntegrityError, match="json can be written by others"):
            find_plan(bundle, "step", RTX, CARD)

    def test_link_to_a_folder(self, plan: Plan, bundle: Bundle, tmp_path: Path) -> None:
        moved = plan.folder.rename(tmp_path / "moved")
        plan.folder.symlink_to(moved)
        with pytest.raises(EngineIntegrityError, match="symbolic link"):
            find_plan(bundle, "step", RTX, CARD)

    def test_file_of_another_user(self, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        owner = os.stat(plan.path).st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        monkeypatch.setattr(owned_files, "ROOT_ID", owner + 2)
        with pytest.raises(EngineIntegrityError, match=f"belongs to user {owner}, you are {owner + 1}"):
            plan.read()

    def test_what_root_installed_is_fine(self, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        owner = os.stat(plan.path).st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        monkeypatch.setattr(owned_files, "ROOT_ID", owner)
        assert plan.read() == CONTENT

    def test_name_with_a_path(self, plan: Plan) -> None:
        with (
            owned_files.OwnedFolder(plan.folder) as folder,
            pytest.raises(EngineIntegrityError, match="lies elsewhere"),
        ):
            folder.read(f"../engines/{plan.record.file}")

    def test_no_folder_is_no_plans(self, tmp_path: Path) -> None:
        assert plans_in(tmp_path / "nowhere") == []
