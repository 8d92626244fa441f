"""`emo-rt doctor`: what it finds, and what it advises on poorer and richer machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emo_rt.cli import doctor, gpu_packages, main
from emo_rt.cli.gpu_packages import Card
from emo_rt.device.base import Backend
from emo_rt.device.registry import open_backend
from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.errors import BackendUnavailableError
from emo_rt.faces import networks

KEYS = [
    "schema",
    "emo_rt",
    "python",
    "platform",
    "machine",
    "packages",
    "ffmpeg",
    "onnxruntime_providers",
    "gpus",
    "runtime",
    "backends",
    "tensorrt",
    "encoders",
    "face_detector",
    "demo_model",
    "ready",
    "advice",
]
"""Programs rely on these: taking one away needs a new ``REPORT_SCHEMA``."""


def test_json_has_a_stable_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == KEYS
    assert report["schema"] == doctor.REPORT_SCHEMA == 1
    assert report["ready"] is True
    assert report["machine"]["cores"] >= 1
    assert report["encoders"] == {"h264": report["encoders"]["h264"], "aac": True}
    assert "libx264" in report["encoders"]["h264"]
    assert report["packages"]["numpy"]
    assert "CPUExecutionProvider" in report["onnxruntime_providers"]


def test_text_ends_with_what_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "\nReady: runs with onnxruntime on cpu, encodes with " in text
    assert "\nmachine " in text


def test_does_not_import_torch() -> None:
    code = "import sys; from emo_rt.cli import main; main(['doctor']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_without_a_runtime(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "\nNot ready to make videos:\n" in text
    assert "- ONNX Runtime is not installed; install emo_rt[cpu]" in text


def test_without_encoders(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "open_encoder_works", lambda name: False)
    assert main(["doctor"]) == 1
    assert "lacks an encoder" in capsys.readouterr().out


def test_without_a_detector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(networks, "is_installed", lambda package: False)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "needs --face-box" in text
    assert "- finding faces needs ONNX Runtime or OpenVINO; install emo_rt[cpu]" in text


def test_without_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert main(["doctor"]) == 0
    assert "'emo_rt[export]'" in capsys.readouterr().out


def fake_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_gpu_that_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA H100, 81559 MiB, 570.1, 9.0'")

    def without_cuda(*, device: str) -> Backend:
        if device == "cuda":
            raise BackendUnavailableError("no CUDA here; install something")
        return open_backend(device=device)

    monkeypatch.setattr(doctor, "open_backend", without_cuda)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "NVIDIA H100, 81559 MiB, driver 570.1, compute capability 9.0" in text
    assert "- the GPU is not used: no CUDA here; install something" in text
    assert "- for this GPU: its driver 570.1 is older than 580" in text


H100, ORIN, B200, RTX3060 = "9.0", "8.7", "10.0", "8.6"


@pytest.mark.parametrize(
    ("capability", "driver", "machine", "wanted"),
    [
        (H100, "580.65", "x86_64", "pip install 'emo_rt[gpu]'"),
        (H100, "unknown", "x86_64", "pip install 'emo_rt[gpu]'"),
        (H100, "570.1", "x86_64", "update the driver first"),
        (ORIN, "unknown", "aarch64", "pip install 'emo_rt[cuda]' in an environment that sees it"),
        (B200, "580.65", "x86_64", "pip install 'emo_rt[tensorrt]'"),
        (RTX3060, "580.65", "aarch64", "pip install 'emo_rt[tensorrt-rtx]'"),
    ],
)
def test_the_command_that_fits_a_gpu(capability: str, driver: str, machine: str, wanted: str) -> None:
    gpu = Card("a card", "unknown", driver, capability)
    assert gpu_packages.advice(gpu, {}, machine).endswith(wanted)


def test_two_packages_of_onnx_runtime_are_not_installed_over_each_other() -> None:
    gpu = Card("a card", "unknown", "580.65", H100)
    found = gpu_packages.advice(gpu, {"onnxruntime": "1.32"}, "x86_64")
    assert found == "pip uninstall -y onnxruntime && pip install 'emo_rt[gpu]'"


def test_a_gpu_without_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Jetson: the driver is asked."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor, "current_gpu", lambda: Gpu("Orin", "sm87"))
    assert doctor._gpus() == [Card("Orin", "unknown", "unknown", "8.7")]


@pytest.mark.parametrize("script", ["exit 9", "echo NVIDIA-SMI has failed", "echo"])
def test_broken_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, script)
    assert doctor.examine().gpus == []
