"""What differs between families of checkpoints is in their own files, and nothing that is asked for is ignored."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator, Box, Bundle, ConfigError, FaceInputs
from emo_rt.export.presets import preset
from emo_rt.media.framing import Portrait, prepare_portrait
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.base import COMMON_OPTIONS, ClipState, Family
from emo_rt.model.families.registry import FAMILIES, family_of
from tests.small_bundles import echomimic_tiny, hallo_tiny, lean

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {field.name for field in dataclasses.fields(AnimateOptions)} | {"head_room"}
SET: dict[str, Any] = {"speed": 0.8, "motion_scale": (1.0, 1.0, 1.2), "head_room": 0.3, "causal": True}
"""A value for each option that some family does not heed."""


def portrait(size: int = 32) -> Portrait:
    picture = np.random.default_rng(1).integers(0, 255, (100, 120, 3), np.uint8)
    return prepare_portrait(picture, size, face_box=Box(40, 30, 70, 75))


@pytest.fixture(scope="module")
def hallo(hallo_bundle: Bundle) -> Any:
    with Animator.load(hallo_bundle.path, device="cpu", threads=1) as animator:
        yield animator


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_heeds_options_that_exist(name: str) -> None:
    config = {"emo": preset("tiny"), "hallo": hallo_tiny(), "echomimic": echomimic_tiny()}[name]
    assert COMMON_OPTIONS <= family_of(config).heeds < OPTIONS
    assert family_of(config).name == config.family == name


def test_every_option_is_heeded_by_some_family(tiny_bundle: Bundle) -> None:
    configs = (tiny_bundle.config, hallo_tiny(), echomimic_tiny())
    assert set().union(*(family_of(config).heeds for config in configs)) == OPTIONS


@pytest.mark.parametrize(
    ("config", "ignored"),
    [(hallo_tiny(), ("speed", "head_room", "causal")), (lean(), ("speed", "motion_scale", "causal"))],
)
def test_an_option_without_effect_is_an_error(config: ModelConfig, ignored: tuple[str, ...]) -> None:
    family = family_of(config)
    for name in ignored:
        with pytest.raises(ConfigError, match=rf"{name} is .* \(family {config.family}\) does not heed it"):
            family.check_heeds({name: SET[name]})
    family.check_heeds({name: value for name, value in SET.items() if name not in (*ignored,)})


@pytest.mark.parametrize("option", ["speed"])
def test_a_run_refuses_what_its_model_does_not_heed(hallo: Animator, option: str) -> None:
    avatar = hallo.prepare(portrait().picture, face_box="full", face=FaceInputs(no_embedding=True))
    for call in (hallo.animate, hallo.stream):
        with pytest.raises(ConfigError, match=r"speed is 0\.8; the model 'hallo-tiny'"):
            call(avatar, np.zeros(640, np.float32), **{option: SET[option]})


def test_head_room_is_refused_by_hallo_and_motion_scale_by_emo(hallo: Animator, tiny_animator: Animator) -> None:
    with pytest.raises(ConfigError, match=r"head_room is 0\.3; the model 'hallo-tiny'"):
        hallo.prepare(portrait().picture, face_box="full", face=FaceInputs(no_embedding=True), head_room=0.3)
    with pytest.raises(ConfigError, match=r"motion_scale is .* the model 'tiny'"):
        tiny_animator.resolve(motion_scale=(1.0, 1.0, 1.0))


def test_an_unknown_family_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="family is 'vasa'; expected one of emo, hallo"):
        family_of(dataclasses.replace(tiny_bundle.config, family="vasa"))


def test_the_first_clip_has_no_clip_before_it(tiny_bundle: Bundle, hallo_bundle: Bundle) -> None:
    for config in (tiny_bundle.config, hallo_bundle.config):
        family = family_of(config)
        assert family.plan(ClipState(index=0)).motion == config.first_motion
        later = family.plan(ClipState(index=5))
        assert later.motion == "carried"
        assert [call.graph for call in later.step] == ["step"]
        assert [len(call.frames) for call in later.step] == [config.frames]


def test_what_is_carried(tiny_bundle: Bundle, hallo_bundle: Bundle) -> None:
    assert family_of(tiny_bundle.config).carry == ()
    (call,) = family_of(hallo_bundle.config).carry
    assert (call.graph, list(call.frames)) == ("motion_encoder", [4, 5])
    latents = family_of(dataclasses.replace(hallo_bundle.config, motion_source="latents"))
    assert latents.carry == ()
    assert "motion_encoder" not in latents.roles


@pytest.mark.parametrize("frames", [0, 8])
def test_a_model_hears_windows_or_everything(tiny_bundle: Bundle, frames: int) -> None:
    config = tiny_bundle.config
    audio = dataclasses.replace(config.audio, window_frames=frames)
    hearing = family_of(dataclasses.replace(config, audio=audio)).hearing
    assert hearing.is_whole_file == (frames == 0)
    wanted = config.frames + 2 * audio.context_frames if frames else 0
    assert hearing.length == audio.left_context_frames + wanted + audio.right_context_frames
    assert hearing.samples * config.fps == hearing.length * 16_000


@pytest.mark.parametrize(("head_room", "sides"), [(0.0, (1, 1)), (0.5, (2, 2)), (float("inf"), (99, 99))])
def test_the_face_mask_of_emo_has_room(tiny_bundle: Bundle, head_room: float, sides: tuple[float, float]) -> None:
    subject = portrait(tiny_bundle.config.size)
    mask = family_of(tiny_bundle.config).face_mask(subject, head_room)[0, 0]
    height, width = (min(side * length, 32) for side, length in zip(sides, _extent(subject), strict=True))
    assert abs(mask.any(1).sum() - height) <= 2
    assert abs(mask.any(0).sum() - width) <= 2


def _extent(subject: Portrait) -> tuple[float, float]:
    return subject.face.height, subject.face.width


def test_the_face_mask_is_among_a_portraits_inputs(tiny_bundle: Bundle, hallo_bundle: Bundle) -> None:
    for bundle in (tiny_bundle, hallo_bundle):
        family, subject = family_of(bundle.config), portrait(bundle.config.size)
        found = family.portrait_inputs(subject, family.anonymous, subject.picture)
        np.testing.assert_array_equal(found["face_mask"], family.face_mask(subject))
        wanted = {tensor.name: tensor.shape for tensor in bundle.graphs["reference"].inputs}
        assert found["face_mask"].shape == wanted["face_mask"]
        assert set(wanted) - {"portrait_latent"} <= set(found)


SWITCH = re.compile(
    r"motion_source\b|first_motion ?[!=]=|\.family ?[!=]=|audio\.attention ?[!=]=|reference\.mode ?[!=]="
    r"|\.face_tokens\b|window_frames ?[!=]= ?0|[\"']hallo[\"']|[\"']emo[\"']|[\"']echomimic[\"']|config\.windows\b"
)
"""How a question looks that only a family can answer."""
ELSEWHERE = {
    "model/audio_config.py": "fields of the configuration and their ranges",
    "model/config.py": "fields of the configuration and their ranges",
    "model/schema1.py": "schema 1 did not name the family",
    "cli/export.py": "checkpoints that can be exported",
}
"""Files outside ``model/families/`` that may ask it, and why."""


@pytest.mark.parametrize("path", sorted((ROOT / "emo_rt").rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nobody_asks_for_the_family(path: Path) -> None:
    name = path.relative_to(ROOT / "emo_rt").as_posix()
    if name.startswith("model/families/") or name in ELSEWHERE:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # prose may name families
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    assert SWITCH.findall(ast.unparse(tree)) == []


class _Third(Family):
    """A family of a third kind, made of this class alone."""

    name = "third"
    heeds = COMMON_OPTIONS  # type: ignore[assignment]
    roles = frozenset({"vae_encoder"})  # type: ignore[assignment]
    first_motion = "zeros"  # type: ignore[assignment]

    def constants(self, options: AnimateOptions) -> dict[str, Any]:
        return {}

    def face_mask(self, portrait: Portrait, head_room: float | None = None) -> Any:
        return np.ones((1, 1, self.config.size, self.config.size), np.float32)

    def portrait_inputs(
        self, portrait: Portrait, given: FaceInputs, original: Any, head_room: float | None = None
    ) -> dict[str, Any]:
        return {"face_mask": self.face_mask(portrait)}


def test_a_third_family_animates(
    tiny_bundle: Bundle, bundle_copy: Path, tiny_animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the registry learns of it: here one whose masks are white and whose head speed nobody can set."""
    monkeypatch.setattr("emo_rt.model.families.registry.FAMILIES", {**FAMILIES, "third": _Third})
    manifest = bundle_copy / "emo_rt.json"
    manifest.write_text(manifest.read_text().replace('"family": "emo"', '"family": "third"'))
    sound, picture = np.zeros(4000, np.float32), portrait().picture
    own = tiny_animator.prepare(picture, face_box="full", head_room=float("inf"))
    expected = tiny_animator.animate(own, sound, sample_rate=16_000, steps=2, speed=0.0).numpy()
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture, face_box="full")
        found = animator.animate(avatar, sound, sample_rate=16_000, steps=2).numpy()
        with pytest.raises(ConfigError, match="family third"):
            animator.resolve(speed=0.5)
    np.testing.assert_array_equal(found, expected)
