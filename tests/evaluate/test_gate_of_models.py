"""The gate holds runs of a real model together: another engine passes, 1 % noise on one graph's weights does not."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from emo_rt import Bundle
from emo_rt.benchmarks import planted_faults
from emo_rt.cli import main
from emo_rt.media.audio import mono_16k, open_audio

ASSETS = Path(__file__).resolve().parents[2] / "emo_rt" / "assets"
SECONDS = 1


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the voice that comes with the package."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    sound = np.concatenate(list(mono_16k(open_audio(ASSETS / "voice.flac"))))[16_000 : 16_000 * (1 + SECONDS)]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sound.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def noisy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with normal noise of 1 % of each tensor's deviation on the weights of ``reference``."""
    pytest.importorskip("onnx")
    return planted_faults.noisy_bundle(Bundle.open("demo"), "reference", tmp_path_factory.mktemp("noisy") / "bundle")


def gate(first: str, second: str, voice: Path, *more: str) -> int:
    portrait = ["--portrait", str(ASSETS / "portrait.png"), "--voice", str(voice), "--face-box", "122,94,390,424"]
    machine = ["--device", "cpu", "--threads", "1", "-q", "--json", "-"]
    return main(["evaluate", "--regression", first, second, *portrait, *machine, *more])


@pytest.mark.slow
def test_another_engine_is_equal_and_noisy_weights_are_not(
    voice: Path, noisy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("demo:realtime", "demo:realtime@openvino", voice) == 0
    equal = json.loads(capsys.readouterr().out)
    assert equal["expect"] == "equal"
    assert min(equal["psnr"]) > 75
    assert {change["metric"] for change in equal["changes"]} >= {"lip_correlation", "border_jump", "sharpness"}
    assert gate("demo:realtime", f"{noisy_bundle}:realtime", voice) == 1
    noisy = json.loads(capsys.readouterr().out)
    assert noisy["passed"] is False
    assert "worst frame" in noisy["verdict"]


@pytest.mark.slow
def test_presets_are_asked_for_quality(voice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = gate("demo:fast", "demo:realtime", voice)
    result = json.loads(capsys.readouterr().out)
    assert code == (0 if result["passed"] else 1)
    assert result["expect"] == "quality"
    assert min(result["seconds"]) > 0
