"""Settings become presets by what they keep; the loader finds them; bundles stay as they are."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, Bundle
from emo_rt.cli import main
from emo_rt.errors import BundleError, ConfigError
from emo_rt.evaluate import tuning
from emo_rt.evaluate.subject import Speech
from emo_rt.evaluate.tuning import Tried, as_options, candidates, kept_share, named, tune
from emo_rt.media.box import Box
from emo_rt.model.presets import STANDARD_PRESETS, Preset
from emo_rt.model.tuned import Tuned, read_tuned, tuned_file, with_tuned, write_tuned

BEST = STANDARD_PRESETS["quality"]


@pytest.fixture
def sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own."""
    monkeypatch.setenv("EMO_RT_TUNED", str(tmp_path / "tuned"))
    return tmp_path / "tuned"


def tried(steps: int, speed: float, kept: float) -> Tried:
    return Tried(f"unipc {steps}", Preset(solver="unipc", steps=steps), speed, kept, 40.0, True, "")


def first(speed: float = 10.0) -> Tried:
    return Tried("ddim 40", BEST, speed, 1.0, 100.0, True, "")


def test_presets_are_the_fastest_that_keep_their_share() -> None:
    presets = named([first(), tried(20, 5, 0.99), tried(12, 3, 0.98), tried(8, 2, 0.95), tried(4, 1, 0.9)])
    assert {name: preset.steps for name, preset in presets.items()} == {
        "quality": 40, "balanced": 12, "fast": 8, "realtime": 4,
    }  # fmt: skip
    assert presets["quality"].ladder == ("balanced", "fast", "realtime")
    assert presets["fast"].ladder == ("realtime",)
    assert presets["realtime"].ladder == ()


def test_where_nothing_is_good_enough_the_best_stays_and_realtime_is_the_fastest() -> None:
    presets = named([first(), tried(8, 2, 0.5), tried(4, 1, 0.4)])
    assert [presets[name].steps for name in ("balanced", "fast", "realtime")] == [40, 40, 4]
    assert presets["quality"].ladder == ("realtime",)


def test_a_slower_setting_is_no_step_down() -> None:
    presets = named([first(), tried(12, 12, 0.99)])
    assert {preset.steps for preset in presets.values()} == {40}
    assert presets["quality"].ladder == ()


def test_candidates_are_what_the_bundle_can_run(tiny_bundle: Bundle, cached_bundle: Bundle) -> None:
    plain, cached = dict(candidates(tiny_bundle)), dict(candidates(cached_bundle))
    assert "unipc 12, guidance 0.2-0.8" in plain
    assert not [name for name in plain if "cache" in name]
    assert "unipc 12, cache 2" in cached
    assert "unipc 4, cache 2" not in cached


def test_the_bundles_own_presets_are_tried_first(tiny_bundle: Bundle) -> None:
    """Or a short budget replaces them by slower ones."""
    own = [name for name in tiny_bundle.presets if name != "quality"]
    found = list(candidates(tiny_bundle))
    assert [name for name, _ in found[: len(own)]] == [f"the bundle's {name}" for name in own]
    assert len({preset for _, preset in found}) == len(found)


def test_a_students_preset_is_tried_with_its_own_variant(tiny_bundle: Bundle) -> None:
    """Otherwise tuning would put a slower preset before it."""
    student = Preset(solver="euler", steps=1, guidance=1.0, variant="distilled", ladder=("fast",))
    both = replace(
        tiny_bundle,
        variants={**tiny_bundle.variants, "distilled": next(iter(tiny_bundle.variants.values()))},
        presets={**tiny_bundle.presets, "realtime": student, "live": replace(student, ladder=())},
    )
    found = dict(candidates(both))
    preset = found["the bundle's realtime (distilled)"]
    assert preset == replace(student, ladder=())
    assert [one for one in found.values() if one.variant == "distilled"] == [preset], "one setting is measured once"
    assert as_options(preset, both).preset == "realtime"
    assert as_options(both.presets["quality"], both).preset == "quality"


def test_kept_share() -> None:
    moving, still = 0.1 + 0.05 * np.sin(np.arange(75)), np.full(75, 0.1)

    def read(opening: Any, sharpness: float = 3.0) -> Any:
        found = np.full(75, np.isfinite(sharpness))
        return SimpleNamespace(opening=opening, sharpness=np.full(75, sharpness), found=found)

    assert kept_share(read(moving), read(moving), 1.0) == pytest.approx(1)
    assert kept_share(read(moving), read(still), 1.0) == pytest.approx(0.5)  # sharp and alike, but its lips are still
    assert kept_share(read(moving), read(moving, 1.5), 1.0) == pytest.approx(0.875)
    nothing = read(np.full(75, np.nan), np.nan)
    assert kept_share(nothing, nothing, 0.7) == pytest.approx(0.7)
    assert kept_share(read(moving), nothing, 0.7) == 0


def test_tuned_presets_go_before_the_bundles_own(tiny_bundle: Bundle, sidecars: Path) -> None:
    before = sorted(path.name for path in tiny_bundle.path.rglob("*"))
    path = write_tuned(tiny_bundle, Tuned({"fast": Preset(solver="euler", steps=3)}, {"device": "cpu"}, []))
    assert path == sidecars / f"{tiny_bundle.sha256}.json"
    assert sorted(path.name for path in tiny_bundle.path.rglob("*")) == before
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        found = animator.resolve(preset="fast")
        assert (found.solver, found.steps) == ("euler", 3)
        assert animator.resolve(preset="quality").steps == 40


def test_info_shows_the_presets_that_hold(
    tiny_bundle: Bundle, sidecars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tuned(tiny_bundle, Tuned({"mine": Preset(solver="euler", steps=3)}, {}, []))
    assert main(["info", str(tiny_bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["presets"]["mine"]["steps"] == 3


def test_a_sidecar_of_another_bundle_or_a_broken_one_is_refused(tiny_bundle: Bundle, sidecars: Path) -> None:
    write_tuned(tiny_bundle, Tuned({"fast": Preset(steps=3)}, {}, []))
    path = tuned_file(tiny_bundle)
    data = json.loads(path.read_text())
    for broken in (
        "{",
        "[]",
        json.dumps({**data, "bundle": "0" * 64}),
        json.dumps({**data, "presets": {"fast": {"steps": 0}}}),
        json.dumps({**data, "presets": {"fast": {"steps": 3, "variant": "nowhere"}}}),
        json.dumps({**data, "presets": {"fast": {"steps": 3, "ladder": ["nowhere"]}}}),
    ):
        path.write_text(broken)
        with pytest.raises(BundleError, match="run `emo-rt tune` again"):
            with_tuned(tiny_bundle)


def test_the_command_measures_keeps_and_forgets(
    tiny_bundle: Bundle,
    sidecars: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a model of random weights, in which no face is found: frames alone are compared."""
    from emo_rt.cli.demo import DEMO_PORTRAIT

    monkeypatch.setattr(tuning, "STEPS", ())
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((3000 * np.random.default_rng(0).normal(size=16_000)).astype("<i2").tobytes())
    common = ["--portrait", str(DEMO_PORTRAIT), "--voice", str(tmp_path / "voice.wav"), "--face-box", "122,94,390,424"]
    machine = ["--device", "cpu", "--threads", "1", "-q"]
    tuned_file(tiny_bundle).parent.mkdir()
    tuned_file(tiny_bundle).write_text("{", encoding="utf-8")  # broken: the remedy is to tune again
    assert main(["tune", str(tiny_bundle.path), *common, *machine, "--budget", "2h"]) == 0
    told = capsys.readouterr().out
    assert "quality" in told
    assert "kept in" in told
    assert "s per s of video" in told
    assert "realtime" in told.splitlines()[-2], "says whether it keeps up"
    tuned = read_tuned(tiny_bundle)
    assert tuned is not None
    assert set(tuned.presets) == {"quality", "balanced", "fast", "realtime"}
    assert tuned.presets["quality"].steps == 40
    assert len(tuned.curve) > 1
    assert tuned.measured["left_out"] == 0
    assert "left out" not in told
    with Animator.load(tiny_bundle.path, device="cpu", threads=1, tuned=False) as animator:
        assert animator.bundle.presets == tiny_bundle.presets, "what was tuned before is no start"
    assert main(["tune", str(tiny_bundle.path), "--forget"]) == 0
    assert read_tuned(tiny_bundle) is None


def test_a_model_of_few_steps_is_tuned(bundle_copy: Path) -> None:
    """Neither finding out the speed nor the warm-up takes fewer steps than its variant serves."""
    path = bundle_copy / "emo_rt.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest |= {"variants": {"base": {"steps": [4, 8]}}, "default_preset": "turbo"}
    manifest["presets"] = {"turbo": {"solver": "unipc", "steps": 8}}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    speech = Speech(np.full((96, 96, 3), 128, np.uint8), np.zeros(16_000, np.float32), Box(20, 20, 70, 70))
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        tuned = tune(animator, speech, 7200)
    assert {one["preset"]["steps"] for one in tuned.curve} == {4, 6, 8}


def test_wrong_calls_say_what_to_do(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tiny_bundle.path)]) == 2
    assert "--portrait" in capsys.readouterr().err
    assert main(["tune", str(tiny_bundle.path), "--portrait", "a", "--voice", "b", "--budget", "1"]) == 2
    assert "expected 10 s or more" in capsys.readouterr().err
    assert main(["tune", str(tiny_bundle.path), "--budget", "soon"]) == 2


def test_a_budget_that_is_over_at_once_is_an_error(tiny_animator: Animator) -> None:
    speech = Speech(np.full((96, 96, 3), 128, np.uint8), np.zeros(20_000, np.float32), Box(20, 20, 70, 70))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a larger budget"):
        tune(tiny_animator, speech, 0.01)
