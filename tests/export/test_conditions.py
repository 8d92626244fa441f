"""What the prediction depends on, and what its unconditional half must not see."""

from __future__ import annotations

import functools

import pytest
import torch
from small_models import CONFIGS, Tensors, caller_inputs, modules_by_name, relative_error, run_graphs, small_model
from torch import Tensor

from emo_rt.export.networks.speed import SpeedEncoder
from emo_rt.export.presets import preset
from emo_rt.model.config import SpeedConfig
from emo_rt.model.contract import sites
from emo_rt.model.families.registry import graph_specs

CLEAR = 1e-3
"""Relative change of a prediction that no rounding explains (fp32 rounding: about 1e-6)."""

EMO = ("emo, learned nulls", "emo, zero nulls")
HALLO = ("hallo", "hallo, learned audio null")

CONDITIONS = {
    "portrait_latent": (*EMO, *HALLO),
    "motion_latents": (*EMO, *HALLO),
    "audio_windows": (*EMO, *HALLO),
    "face_mask": (*EMO, *HALLO),
    "timestep": (*EMO, *HALLO),
    "speed": EMO,
    "face_embedding": HALLO,
    "motion_scale": HALLO,
    "audio_mask.0": HALLO,
    "audio_mask.1": HALLO,
}
"""Input → the configurations that have it."""

UNSEEN = {
    "portrait_latent": (*EMO, *HALLO),
    "audio_windows": (*EMO, *HALLO),
    "face_mask": HALLO,  # LocatorConfig.in_unconditional
    "speed": ("emo, zero nulls",),  # SpeedConfig.in_unconditional
}
"""Input → the configurations whose unconditional half must not see it."""


def cases(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(tensor, config) for tensor, configs in table.items() for config in configs]


@functools.cache
def baseline(config: str) -> tuple[Tensors, Tensors]:
    """Inputs of a model, and every tensor that its graphs make of them."""
    modules = modules_by_name(small_model(config))
    inputs = caller_inputs(modules)
    return inputs, run_graphs(modules, inputs)


def changed(tensor: str, value: Tensor) -> Tensor:
    """Another value of the same kind."""
    if tensor.startswith(("face_mask", "audio_mask")):
        return 1 - value
    if tensor in ("speed", "timestep", "motion_scale"):
        return value * 1.5
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(9))


@functools.cache
def predictions(tensor: str, config: str) -> tuple[Tensor, Tensor]:
    """Predictions (halves, F, 4, S, S) before and after ``tensor`` was changed."""
    inputs, before = baseline(config)
    after = run_graphs(modules_by_name(small_model(config)), {**inputs, tensor: changed(tensor, inputs[tensor])})
    return before["prediction"], after["prediction"]


@pytest.mark.parametrize(("tensor", "config"), cases(CONDITIONS))
def test_conditional_prediction_depends_on(tensor: str, config: str) -> None:
    before, after = predictions(tensor, config)
    assert relative_error(after[1], before[1]) > CLEAR


@pytest.mark.parametrize(("tensor", "config"), cases(UNSEEN))
def test_unconditional_prediction_does_not_see(tensor: str, config: str) -> None:
    before, after = predictions(tensor, config)
    assert torch.equal(after[0], before[0])


@pytest.mark.parametrize("config", EMO)
def test_face_mask_reaches_both_halves_in_the_manner_of_emo(config: str) -> None:
    before, after = predictions("face_mask", config)
    assert relative_error(after[0], before[0]) > CLEAR


def test_speed_reaches_both_halves_unless_told_otherwise() -> None:
    before, after = predictions("speed", "emo, learned nulls")
    assert relative_error(after[0], before[0]) > CLEAR


@pytest.mark.parametrize("config", [*EMO, *HALLO])
def test_motion_frames_reach_both_halves(config: str) -> None:
    before, after = predictions("motion_latents", config)
    assert relative_error(after[0], before[0]) > CLEAR


@pytest.mark.parametrize("config", HALLO)
def test_face_embedding_reaches_the_unconditional_half_through_the_tiled_motion_tokens(config: str) -> None:
    """Trap 2 of the Hallo facts: unconditional motion frame 1 gets the conditional face tokens."""
    before, after = predictions("face_embedding", config)
    assert relative_error(after[0], before[0]) > CLEAR


@pytest.mark.parametrize("config", HALLO)
def test_face_embedding_reaches_the_unconditional_half_in_no_other_way(config: str) -> None:
    inputs, before = baseline(config)
    modules = modules_by_name(small_model(config))
    other = {**inputs, "face_embedding": changed("face_embedding", inputs["face_embedding"])}
    after = run_graphs({name: modules[name] for name in ("reference", "clip", "timestep")}, other)
    after.update({name: value for name, value in before.items() if name.startswith("motion_unconditional.")})
    after = run_graphs({"step": modules["step"]}, after)
    assert torch.equal(after["prediction"][0], before["prediction"][0])
    assert relative_error(after["prediction"][1], before["prediction"][1]) > CLEAR


def test_only_odd_motion_frames_of_the_unconditional_half_get_the_conditional_face_tokens() -> None:
    _, before = baseline("hallo")
    clip = modules_by_name(small_model("hallo"))["clip"]
    face_tokens = torch.randn(before["face_tokens"].shape, generator=torch.Generator().manual_seed(4))
    after = run_graphs({"clip": clip}, {**before, "face_tokens": face_tokens})
    for kind, seen in (("motion_unconditional", [True, False]), ("motion", [False, True])):
        name = f"{kind}.up_1_1"
        frames = zip(before[name].unbind(1), after[name].unbind(1), strict=True)
        assert [not torch.equal(old, new) for old, new in frames] == seen


@pytest.mark.parametrize("config", list(CONFIGS))
def test_conditional_half_is_the_prediction_without_guidance(config: str) -> None:
    """For Hallo only where both halves have the conditional half's features of the portrait: else it mixes them."""
    _, tensors = baseline(config)
    for name in [name for name in tensors if name.startswith("reference_")]:
        tensors = {**tensors, name: tensors[name][-1:].expand_as(tensors[name]).contiguous()}
    both, alone = (
        run_graphs({name: modules_by_name(small_model(config), guided=name == "step")[name]}, tensors)["prediction"]
        for name in ("step", "step_unguided")
    )
    assert relative_error(alone[0], both[1]) <= 1e-5


@pytest.mark.parametrize("config", [name for name in CONFIGS if name.startswith("hallo")])
def test_frames_of_hallo_see_both_reference_sets_in_turn(config: str) -> None:
    """Changing the unconditional half's set moves the even frames of the conditional half directly, the odd ones only
    through their neighbours; no frame of the unconditional half moves."""
    model, tensors = small_model(config), baseline(config)[1]
    step = {"step": modules_by_name(model, guided=True)["step"]}
    changed = {name: torch.cat([value[:1] * 1.5, value[1:]]) if name.startswith("reference_") else value
               for name, value in tensors.items()}  # fmt: skip
    before, after = tensors["prediction"], run_graphs(step, changed)["prediction"]
    assert torch.equal(before[0], after[0])
    moved = (after[1] - before[1]).flatten(1).norm(dim=1)
    assert moved[0::2].min() > 2 * moved[1::2].max()


def test_guidance_scale_one_is_the_conditional_half_and_zero_the_unconditional() -> None:
    _, before = baseline("emo, zero nulls")
    step = {"step": modules_by_name(small_model("emo, zero nulls"))["step"]}
    take_prediction = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    for half in (0, 1):
        scale = torch.tensor([float(half)])
        after = run_graphs(step, {**before, "guidance_scale": scale, "coefficients": take_prediction})
        torch.testing.assert_close(after["next_latents"], before["prediction"][half])


def test_solver_update_uses_every_coefficient_and_both_earlier_x0() -> None:
    inputs, tensors = baseline("emo, learned nulls")
    p, q, a, b, c, d = inputs["coefficients"]
    unconditional, conditional = tensors["prediction"]
    guided = unconditional + inputs["guidance_scale"] * (conditional - unconditional)
    x0 = p * inputs["latents"] + q * guided
    earlier, earliest = inputs["x0_history"]
    torch.testing.assert_close(tensors["next_latents"], a * inputs["latents"] + b * x0 + c * earlier + d * earliest)
    torch.testing.assert_close(tensors["next_x0_history"], torch.stack([x0, earlier]))


class TestSpeedEncoder:
    """Each frame hears the speeds of its m neighbours on both sides."""

    encoder = SpeedEncoder(SpeedConfig(hidden_dim=16, token_dim=16), neighbours=2).requires_grad_(False)
    speed = torch.linspace(0.2, 1.3, 9)

    @pytest.mark.parametrize("frame", range(9))
    def test_a_frame_reaches_its_neighbours_and_no_others(self, frame: int) -> None:
        other = self.speed.clone()
        other[frame] += 0.07
        touched = (self.encoder(other) != self.encoder(self.speed)).any(1)
        assert touched.nonzero().flatten().tolist() == [i for i in range(9) if abs(i - frame) <= 2]

    def test_ends_repeat_the_outermost_speed(self) -> None:
        longer = torch.cat([self.speed[:1].expand(2), self.speed, self.speed[-1:].expand(2)])
        torch.testing.assert_close(self.encoder(longer)[2:-2], self.encoder(self.speed))

    def test_buckets_follow_the_paper(self) -> None:
        """s_i = tanh((w − c_i) / r_i · 3) (section 3.2)."""
        hidden = []
        self.encoder.mlp[0].register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
        self.encoder(torch.full((1,), 0.73))
        expected = [torch.tensor((0.73 - c) / 0.1 * 3).tanh() for c in SpeedConfig().centres]
        torch.testing.assert_close(hidden[0].reshape(5, -1), torch.stack(expected).expand(5, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["emo", "hallo"])
def test_full_size_has_21_sites_of_which_16_have_attention(name: str) -> None:
    found = sites(preset(name).unet)
    assert len(found) == 21
    assert [site.attention for site in found].count(True) == 16
    assert {site.name for site in found if not site.attention} == {"down_3_0", "down_3_1", "up_0_0", "up_0_1", "up_0_2"}


@pytest.mark.parametrize(("name", "count"), [("emo", 21), ("hallo", 16)])
def test_motion_features_go_to_every_site_or_to_those_with_attention(name: str, count: int) -> None:
    step = graph_specs(preset(name))[5]
    motion = [tensor.name.split(".")[1] for tensor in step.inputs if tensor.name.startswith("motion.")]
    wanted = [site.name for site in sites(preset(name).unet) if site.attention or name == "emo"]
    assert motion == wanted
    assert len(motion) == count
