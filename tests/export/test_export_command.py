"""`emo-rt export`: what it hands to the exporter, what it prints, how it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.cli import main
from emo_rt.model.bundle import RANDOM_WEIGHTS
from tests.cli.commands import failure


class TestExport:
    @pytest.fixture
    def exported(self, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Calls of ``export_bundle``, which gives the finished tiny bundle at once; the real one has its own tests."""
        from emo_rt.export import command as export_command

        calls: list[Any] = []

        def export(model: Any, target: Path, options: Any, report: Callable[[str], None], variants: Any) -> Bundle:
            assert not variants
            calls.append((model, target, options))
            report("exporting vae_encoder")
            return tiny_bundle

        monkeypatch.setattr(export_command, "export_bundle", export)
        return calls

    def test_prints_progress_parity_and_parameters(
        self, exported: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["export", "--preset", "tiny", "--random-weights", "-o", str(tmp_path / "bundle")]
        assert main([*arguments, "--half-storage", "--both", "--seed", "4"]) == 0
        printed = capsys.readouterr()
        model, target, options = exported[0]
        assert target == tmp_path / "bundle"
        assert (options.dtype, options.half_storage, options.guidance) == ("float32", True, (True, False))
        assert (options.check, options.source) == (True, RANDOM_WEIGHTS)
        assert all("s] " in line for line in printed.err.splitlines())
        for words in ("vae_decoder", "relative", f"{sum(p.numel() for p in model.parameters()):,}", "peak memory"):
            assert words in printed.out
        assert "published" not in printed.out

    @pytest.mark.parametrize(
        ("more", "guidance", "dtype"),
        [([], (True,), "float32"), (["--no-guidance", "--dtype", "fp16", "--no-check"], (False,), "float16")],
    )
    def test_options(
        self, exported: list[Any], tmp_path: Path, more: list[str], guidance: tuple[bool], dtype: str
    ) -> None:
        assert main(["export", "--preset", "tiny", "--random-weights", "-q", "-o", str(tmp_path / "b"), *more]) == 0
        options = exported[0][2]
        assert (options.guidance, options.dtype, options.check) == (guidance, dtype, "--no-check" not in more)

    def test_full_size_is_checked_on_request_only(
        self, exported: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from emo_rt.export import command as export_command
        from emo_rt.export.networks.model import build_model
        from emo_rt.export.presets import preset

        tiny = build_model(preset("tiny"))
        monkeypatch.setattr(export_command, "build_model", lambda config, seed: tiny)
        for more in ([], ["--check"]):
            assert main(["export", "--preset", "emo", "--random-weights", "-o", str(tmp_path / "b"), *more]) == 0
        assert [options.check for _, _, options in exported] == [False, True]
        printed = capsys.readouterr().out
        assert "859.5 M (SD 1.5 UNet)" in printed
        assert "453.2 M (AnimateDiff v2)" in printed

    def test_failures(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tiny = ["export", "--preset", "tiny", "-o"]
        assert "--random-weights" in failure(capsys, [*tiny, str(tmp_path / "b")], 2)
        halves = ["--random-weights", "--dtype", "fp16", "--half-storage"]
        assert "--half-storage" in failure(capsys, [*tiny, str(tmp_path / "b"), *halves], 2)
        (tmp_path / "precious").write_text("x")
        assert "not an empty folder" in failure(capsys, [*tiny, str(tmp_path), "--random-weights"], 1)

    def test_without_torch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in [name for name in sys.modules if name == "emo_rt.export" or name.startswith("emo_rt.export.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr("emo_rt.export", raising=False)
        monkeypatch.setitem(sys.modules, "torch", None)
        line = failure(capsys, ["export", "--preset", "tiny", "--random-weights", "-o", str(tmp_path / "b")], 1)
        assert "emo_rt[export]" in line
