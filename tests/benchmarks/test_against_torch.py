"""`emo-rt bench --against torch`: weights read back from a bundle, and the same clip in eager torch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from emo_rt import Bundle
from emo_rt.benchmarks.against_torch import against_torch, check_agreement
from emo_rt.benchmarks.agreement import DisagreementError, psnr
from emo_rt.benchmarks.subject import Setting, Subject
from emo_rt.export import read_back as reading
from emo_rt.export.read_back import read_back
from tests.make_bundles import bundle_model

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("opened_once")


def test_weights_come_back(tiny_bundle: Bundle) -> None:
    """All but what the exporter folded and what no output needs; the model that reading starts from has others."""
    model, found = bundle_model(tiny_bundle.config), read_back(tiny_bundle)
    for layer in filter(is_parametrized, model.modules()):  # a weight normalisation splits a weight in many ways
        layer.weight = layer.weight.clone()  # this is the way that reading back splits it
    expected = model.state_dict()
    wrong = {
        name
        for name, value in found.state_dict().items()
        if not np.allclose(value.numpy(), expected[name].numpy(), atol=1e-6)
    }
    allowed = r"null_audio|.*null_reference|reference_net\..*time_emb|reference_net\.up_blocks\.1\.attentions\.1\."
    assert not [name for name in wrong if not re.match(allowed, name)]


@pytest.mark.parametrize("fixture", ["tiny_bundle", "hallo_bundle", "echomimic_bundle"])
def test_same_clip_same_pictures(fixture: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle: Bundle = request.getfixturevalue(fixture)
    monkeypatch.setattr(reading, "as_exported", lambda bundle: bundle_model(bundle.config))
    with Subject(Setting(bundle=str(bundle.path), steps=2, rounds=1, clips=2, threads=1)) as subject:
        found = against_torch(subject, threads=1, rounds=1)
    assert set(found.speedup) == {"plain", "original"}
    assert min(found.agreement_db.values()) >= 40
    assert found.speedup["plain"] == pytest.approx(found.seconds["plain"] / found.seconds["ours"])
    assert found.gmac["step"] > 0


def test_other_pictures_are_not_compared() -> None:
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr(picture, picture) == 100
    assert psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)
    with pytest.raises(DisagreementError, match="different pictures"):
        check_agreement({"plain": 12.0})
    with pytest.raises(DisagreementError):
        check_agreement({"plain": float("nan")})
