"""Importing EchoMimic checkpoints: layout, names, strictness, tolerances."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from emo_rt import CheckpointError, ExportError
from emo_rt.cli import main
from emo_rt.export import command
from emo_rt.export.checkpoints.echomimic import (
    EchoMimicFiles,
    EchoMimicSettings,
    import_echomimic,
    is_echomimic,
    original_name,
)
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.onnx_export import ExportOptions
from emo_rt.export.presets import preset
from tests.conftest import shared_file
from tests.documents import lay_out, names_in, of_kind
from tests.make_bundles import bundle_model
from tests.small_bundles import echomimic_tiny

torch.set_num_threads(1)

SCALE = 3.0
SETTINGS = EchoMimicSettings(
    size=32, frames=6, attention_heads=2, motion_heads=2, norm_groups=8, max_positions=8, vae={"norm_num_groups": 8}
)
PREFIXES = {"reference_net": "reference_unet.pth", "face_locator": "face_locator.pth", "vae": "vae"}


@pytest.fixture(scope="module")
def model() -> EmoModel:
    return bundle_model(replace(echomimic_tiny(), name="echomimic"))


def write(model: EmoModel, folder: Path, dtype: torch.dtype = torch.float32, end: str = "") -> None:
    """A model in the published layout, its audio attention's factor taken out."""
    files: dict[str, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        theirs, part = original_name(name), name.split(".")[0]
        if part == "backbone":
            file = f"motion_module{end}.pth" if ".motion_modules." in theirs else f"denoising_unet{end}.pth"
        else:
            file = "whisper" if part == "audio_encoder" else PREFIXES[part]
        scale = SCALE if ".attn_audio.to_out." in name else 1.0
        files.setdefault(file, {})[theirs] = (tensor / scale).to(dtype)
    whisper = {"dims": {"n_audio_head": 2}, "model_state_dict": {**files.pop("whisper"), "decoder.x": torch.zeros(1)}}
    (folder / "audio_processor").mkdir(exist_ok=True)
    torch.save(whisper, folder / "audio_processor" / "whisper_tiny.pt")
    (folder / "sd-vae-ft-mse").mkdir(exist_ok=True)
    save_file(files.pop("vae"), folder / "sd-vae-ft-mse" / "diffusion_pytorch_model.safetensors")
    for file, tensors in files.items():
        torch.save(tensors, folder / file)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def read(folder: Path, accelerated: bool = False) -> EmoModel:
    return import_echomimic(EchoMimicFiles.find(folder, accelerated), SETTINGS)


@pytest.fixture
def folder(model: EmoModel, tmp_path: Path) -> Path:
    write(model, tmp_path)
    return tmp_path


def assert_same(found: EmoModel, model: EmoModel, tolerance: float = 1e-6) -> None:
    for (name, ours), theirs in zip(found.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=1e-7, msg=lambda text, n=name: f"{n}: {text}")


def test_what_was_written_comes_back(folder: Path, model: EmoModel) -> None:
    found = read(folder)
    assert is_echomimic(folder)
    assert replace(found.config, decode_frames=2) == model.config
    assert_same(found, model)
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_the_factor_of_the_audio_attention_is_in_its_output(folder: Path) -> None:
    (site, block), *_ = read(folder).blocks()
    stored = torch.load(folder / "denoising_unet.pth", weights_only=True)
    assert site.name == "down_0_0"
    for part in ("weight", "bias"):
        theirs = stored[f"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.{part}"]
        torch.testing.assert_close(getattr(block.attn_audio.to_out[0], part), 3 * theirs)


def test_names_and_shapes_are_the_published_ones() -> None:
    published: Mapping[str, Any] = json.loads(shared_file("reference/echomimic_keys.json").read_text())
    with torch.device("meta"):
        model = EmoModel(preset("echomimic"))
    found: dict[str, dict[str, list[int]]] = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(name.split(".")[0], {})[original_name(name)] = list(tensor.shape)
    assert found["backbone"] == published["denoising_unet.pth"] | published["motion_module.pth"]
    assert found["reference_net"] == published["reference_unet.pth"]
    assert found["face_locator"] == published["face_locator.pth"]
    whisper = published["audio_processor/whisper_tiny.pt"]["model_state_dict"]
    assert found["audio_encoder"] == {name: s for name, s in whisper.items() if name.startswith("encoder.")}


def test_half_precision_is_read(model: EmoModel, tmp_path: Path) -> None:
    write(model, tmp_path, torch.float16)
    found = read(tmp_path)
    assert found.dtype == torch.float32
    assert_same(found, model, 2e-3)


def test_accelerated_weights(folder: Path, model: EmoModel) -> None:
    with pytest.raises(CheckpointError, match=r"none of denoising_unet_acc\.pth"):
        EchoMimicFiles.find(folder, accelerated=True)
    write(model, folder, end="_acc")
    change(folder / "denoising_unet_acc.pth", lambda state: state["conv_in.bias"].add_(1.0))
    torch.testing.assert_close(read(folder, True).backbone.conv_in.bias, model.backbone.conv_in.bias + 1)
    torch.testing.assert_close(read(folder).backbone.conv_in.bias, model.backbone.conv_in.bias)


MOTION = "mid_block.motion_modules.0.temporal_transformer.proj_in.bias"


def test_motion_tensors_may_be_in_either_file_and_the_unets_wins(folder: Path, model: EmoModel) -> None:
    value = torch.load(folder / "motion_module.pth", weights_only=True)[MOTION]
    change(folder / "denoising_unet.pth", lambda state: state.update({MOTION: value + 1}))
    assert torch.equal(read(folder).backbone.mid_block.temporal_modules[0].proj_in.bias, value + 1)  # type: ignore[index]
    change(folder / "motion_module.pth", lambda state: state.pop(MOTION))
    read(folder)
    change(folder / "denoising_unet.pth", lambda state: state.pop(MOTION))
    with pytest.raises(CheckpointError, match=f"missing: {MOTION}"):
        read(folder)


def test_a_position_table_of_another_length_is_replaced(folder: Path, model: EmoModel) -> None:
    def shorten(state: dict[str, Any]) -> None:
        for name in state:
            if name.endswith(".pe"):
                state[name] = torch.full((1, 5, state[name].shape[2]), 9.0)

    change(folder / "motion_module.pth", shorten)
    assert_same(read(folder), model)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("denoising_unet.pth", lambda s: s.pop("conv_out.bias"), "missing: conv_out.bias"),
        ("denoising_unet.pth", lambda s: s.update(x=torch.zeros(1)), "not known: x"),
        ("denoising_unet.pth", lambda s: s.update({"conv_in.bias": torch.zeros(3)}), r"conv_in.bias is \[3\]"),
        ("denoising_unet.pth", lambda s: s["conv_in.bias"].fill_(float("nan")), "NaN or infinite: conv_in.bias"),
        ("motion_module.pth", lambda s: s.update({"conv_in.bias": torch.zeros(3)}), "no file of motion modules"),
        ("reference_unet.pth", lambda s: s.pop("conv_in.weight"), "missing: conv_in.weight"),
        ("face_locator.pth", lambda s: s.update({"blocks.0.bias": torch.zeros(1)}), r"blocks.0.bias is \[1\]"),
        ("audio_processor/whisper_tiny.pt", lambda s: s.pop("dims"), "no dims with n_audio_head"),
        ("audio_processor/whisper_tiny.pt", lambda s: s.pop("model_state_dict"), "no state dict 'model_state_dict'"),
        (
            "audio_processor/whisper_tiny.pt",
            lambda s: s["model_state_dict"].pop("encoder.blocks.0.mlp.2.bias"),
            r"missing: encoder.blocks.0.mlp.2.bias",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named(folder: Path, file: str, edit: Callable[[Any], None], message: str) -> None:
    change(folder / file, edit)
    with pytest.raises(CheckpointError, match=message):
        read(folder)


@pytest.mark.parametrize("file", ["motion_module.pth", "reference_unet.pth", "face_locator.pth"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        EchoMimicFiles.find(folder)


def test_a_missing_folder_or_vae_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        EchoMimicFiles.find(folder / "nothing")
    (folder / "sd-vae-ft-mse").rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match="--vae"):
        EchoMimicFiles.find(folder)
    assert EchoMimicFiles.find(folder, vae=folder / "elsewhere").resolved()[-1].parent.name == "elsewhere"


def test_the_command_exports_echomimic(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to the writing, which other tests do: licence, hashes, presets, and guidance left out when accelerated."""
    write(bundle_model(replace(echomimic_tiny(), name="echomimic")), folder, end="_acc")
    given: list[Any] = []

    def stop(model: EmoModel, target: Path, options: ExportOptions, report: object, variants: object) -> None:
        given.extend([model, options, variants])
        raise ExportError("far enough")

    monkeypatch.setattr(command, "export_bundle", stop)
    monkeypatch.setattr(command, "EchoMimicSettings", lambda: SETTINGS)
    arguments = ["export", "--from", "echomimic", "--checkpoint", str(folder), "-o", str(tmp_path / "bundle"), "-q"]
    for more, guided, steps in (([], (True,), 30), (["--accelerated"], (False,), 6), (["--both"], (True, False), 30)):
        given.clear()
        assert main([*arguments, *more]) == 1
        model, options, variants = given
        assert variants == {}
        assert options.guidance == guided
        assert options.offers["presets"]["quality"]["steps"] == steps
        assert model.config.guidance == (1.0 if "--accelerated" in more else 2.5)
        assert "check it before use" in options.licence
        assert options.source.count("sha256:") == 6
        assert ("denoising_unet_acc.pth" in options.source) == ("--accelerated" in more)
    assert not (tmp_path / "bundle").exists()
    check_both(arguments, given, folder)


def check_both(arguments: list[str], given: list[Any], folder: Path) -> None:
    """Base and accelerated weights in one bundle: all eight files, two presets, the second weights read later."""
    change(folder / "denoising_unet_acc.pth", lambda state: state["conv_in.bias"].fill_(0.125))
    for more, guided, second in ((["--with-accelerated"], (True,), (False,)),
                                 (["--with-accelerated", "--both"], (True, False), (True, False))):  # fmt: skip
        given.clear()
        assert main([*arguments, *more]) == 1
        model, options, variants = given
        assert (options.guidance, variants["accelerated"].guidance) == (guided, second)
        presets = options.offers["presets"]
        assert [(name, one["variant"], one["steps"], one["guidance"]) for name, one in presets.items()] == [
            ("quality", "base", 30, None),
            ("fast", "accelerated", 6, 1.0),
        ]
        assert options.source.count("sha256:") == 8
        accelerated = variants["accelerated"].load()
        assert accelerated.config == model.config
        assert (accelerated.backbone.conv_in.bias == 0.125).all()
        assert not (model.backbone.conv_in.bias == 0.125).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--from", "echomimic", "--checkpoint", "x", "--accelerated", "--with-accelerated"],
            "--accelerated and --with-accelerated exclude each other",
        ),
        (["--from", "hallo", "--checkpoint", "x", "--with-accelerated"], "--with-accelerated belongs to --from"),
        (["--accelerated", "--preset", "tiny"], "--accelerated belongs to --from; pass --from echomimic"),
        (["--from", "hallo", "--checkpoint", "x", "--accelerated"], "--accelerated belongs to --from"),
        (
            ["--from", "echomimic", "--checkpoint", "x", "--wav2vec", "y"],
            "--wav2vec belongs to --from; pass --from hallo",
        ),
        (["--from", "echomimic"], "needs --checkpoint"),
    ],
)
def test_options_of_another_source_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-o", str(tmp_path / "bundle"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_files_that_the_page_shows_are_found(tmp_path: Path) -> None:
    (block,) = of_kind("EchoMimic's downloads")
    names = names_in(block)
    lay_out(names, tmp_path)
    found = [EchoMimicFiles.find(tmp_path, accelerated) for accelerated in (False, True)]
    paths = {str(path.relative_to(tmp_path)) for files in found for path in vars(files).values()}
    assert paths == {name.rstrip("/") for name in names}
