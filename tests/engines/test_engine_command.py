"""`emo-rt build`, and engines in `emo-rt info` and `emo-rt doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.cli import doctor, main
from emo_rt.device.tensorrt import package as tensorrt_package
from emo_rt.engines import compile
from emo_rt.engines.target import Target
from emo_rt.errors import MissingDependencyError

pytest.importorskip("tensorrt_rtx")


QUICK = ("--package", "tensorrt_rtx", "--target", "sm89", "--graphs", "timestep,vae_encoder")


def failure(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """The one line on stderr of a command that fails."""
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


def test_says_what_it_did(bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(bundle_copy), *QUICK]) == 0
    printed = capsys.readouterr()
    header, *rows = printed.out.splitlines()
    for word in ("graph", "build", "peak memory", "plan", "layers", "in fp32", "attention fused", "state"):
        assert word in header
    assert [row.split()[0] for row in rows[:2]] == ["timestep", "vae_encoder"]
    assert all(row.endswith("built") for row in rows[:2])
    remark = "no GPU here loads these engines: the figures are from the build log"
    assert (remark in printed.out) is not compile._loads_here(Target(("sm89",), None))
    assert rows[-1].startswith(f"{bundle_copy / 'engines'}: 2 engines, ")
    assert "for sm89, tensorrt_rtx " in rows[-1]
    assert "timestep: building for sm89, because there is no engine yet" in printed.err
    assert main(["build", str(bundle_copy), *QUICK]) == 0
    assert capsys.readouterr().out.count("up to date") == 2


def test_for_programs(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["build", str(tiny_bundle.path), *QUICK, "--cache", str(tmp_path), "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1
    first = report["engines"][0]
    assert first["built"] is True
    assert first["key"]["capabilities"] == ["sm89"]
    assert first["report"]["engines"] == 1
    assert Path(first["path"]).stat().st_size == first["size_bytes"]
    assert main([*arguments, "-q"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["engines"][0]["built"] is False
    assert printed.err == ""


def test_attention_in_words(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--package", "tensorrt_rtx", "--target", "sm86,sm89", "--graphs", "audio_encoder"]
    assert main(["build", str(tiny_bundle.path), *arguments, "--cache", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "0 of 2" in text
    assert "fuses attention in half precision only: export with --dtype fp16" in text
    assert "of one of the targets" in text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "sm90"], "of sm75, sm80, sm86, sm89, sm120, sm121"),
        (["--graphs", "decoder"], "graphs is 'decoder'; expected of vae_encoder, audio_encoder"),
        (["--graphs", ","], "graphs is ''"),
        (["--optimization-level", "9"], "from 0 to 5"),
        (["--workspace", "0"], "from 1 to 1048576 MiB"),
        (["--package", "onnxruntime"], "invalid choice"),
        (["--targets", "sm89"], "--targets"),
    ],
)
def test_wrong_options(
    tiny_bundle: Bundle, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(tiny_bundle.path), *QUICK, "--cache", str(tmp_path), *more]
    assert words in failure(capsys, arguments, 2)
    assert list(tmp_path.iterdir()) == []


def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no bundle" in failure(capsys, ["build", str(tmp_path), *QUICK], 1)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    tensorrt_package._load.cache_clear()
    line = failure(capsys, ["build", "--package", "tensorrt", "--cache", str(tmp_path)], 1)
    assert line == "error: tensorrt is not installed; pip install 'emo_rt[tensorrt]'"


def test_help_says_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("default: ") >= 9
    assert "None" not in text


class TestInfo:
    def test_no_engines(self, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(bundle_copy)]) == 0
        assert "no TensorRT engines; `emo-rt build` makes them" in capsys.readouterr().out

    def test_engines(self, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["build", str(bundle_copy), *QUICK, "-q"]) == 0
        assert main(["info", str(bundle_copy)]) == 0
        text = capsys.readouterr().out
        assert text.count("fits the graph") == 2
        assert main(["info", str(bundle_copy), "--json"]) == 0
        first = json.loads(capsys.readouterr().out)["engines"][0]
        assert (first["graph"], first["target"], first["stale"]) == ("timestep", "sm89", None)

    def test_stale_and_refused(self, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["build", str(bundle_copy), *QUICK, "-q"]) == 0
        manifest = bundle_copy / "emo_rt.json"
        for sidecar in (bundle_copy / "engines").glob("timestep*.json"):
            data = json.loads(sidecar.read_text(encoding="utf-8"))
            data["key"]["graph_sha256"] = "ab" * 32
            sidecar.write_text(json.dumps(data), encoding="utf-8")
        assert manifest.exists()
        assert main(["info", str(bundle_copy)]) == 0
        assert "stale: the graph or its weights changed since (abababababab → " in capsys.readouterr().out
        (bundle_copy / "engines").chmod(0o777)
        assert main(["info", str(bundle_copy)]) == 0
        assert "refused: " in capsys.readouterr().out


class TestDoctor:
    def test_installed(self) -> None:
        found = doctor._tensorrt()
        assert found.works
        assert "tensorrt" in found.detail

    def test_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent() -> None:
            raise MissingDependencyError("TensorRT is not installed; pip install")

        monkeypatch.setattr(doctor, "load_package", absent)
        assert doctor._tensorrt() == doctor.Finding(False, "TensorRT is not installed; pip install")
