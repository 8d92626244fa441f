"""Importing Hallo checkpoints: names, layouts, and everything that must be refused."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_golden import CASES, config_of, write_config, write_weights
from torch import Tensor

from emo_rt.cli import main
from emo_rt.errors import CheckpointError
from emo_rt.export import command
from emo_rt.export.checkpoints.hallo import HalloFiles, import_hallo, original_name
from emo_rt.export.checkpoints.hallo_config import read_config, settings_of
from emo_rt.export.checkpoints.tensors import read_tensors, refuse_half_overflow
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.presets import preset
from tests.conftest import shared_file
from tests.documents import lay_out, names_in, of_kind

State = dict[str, Tensor]
CASE = CASES["unguided"]


@pytest.fixture(scope="module")
def model() -> EmoModel:
    return build_model(config_of(CASE), seed=2)


@pytest.fixture
def folder(model: EmoModel, tmp_path: Path) -> Path:
    write_weights(model, tmp_path)
    write_config(model.config, CASE, tmp_path)
    return tmp_path


def load(folder: Path) -> EmoModel:
    settings = settings_of(read_config(folder / "config.json"), "config.json")
    return import_hallo(HalloFiles.find(folder), settings)


def edit(path: Path, change: Callable[[State], State]) -> None:
    save_file({name: t.contiguous().clone() for name, t in change(load_file(path)).items()}, path)


def assert_same(ours: EmoModel, theirs: EmoModel) -> None:
    wanted = theirs.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items())


def test_every_published_name_and_shape() -> None:
    published = json.loads(shared_file("reference/hallo_keys.json").read_text())
    with torch.device("meta"):
        state = EmoModel(preset("hallo")).state_dict()
    others = ("vae.", "audio_encoder.")
    ours = {original_name(name): list(t.shape) for name, t in state.items() if not name.startswith(others)}
    assert ours == published


def test_safetensors_come_back(folder: Path, model: EmoModel) -> None:
    assert_same(load(folder), model)


def test_published_layout(model: EmoModel, tmp_path: Path) -> None:
    flat, root = tmp_path / "flat", tmp_path / "root"
    flat.mkdir()
    write_weights(model, flat, "net.pth")
    write_config(model.config, CASE, flat)
    config = json.loads((flat / "config.json").read_text())
    places = {
        "net.pth": "hallo/net.pth",
        "vae.safetensors": "sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
        "wav2vec.safetensors": "wav2vec/wav2vec2-base-960h/model.safetensors",
    }
    for name, place in places.items():
        (root / place).parent.mkdir(parents=True)
        (flat / name).rename(root / place)
    for section, place in (("vae", "sd-vae-ft-mse"), ("wav2vec", "wav2vec/wav2vec2-base-960h")):
        (root / place / "config.json").write_text(json.dumps(config.pop(section)))
    imported = import_hallo(HalloFiles.find(root), settings_of(config, "config.json"))
    assert_same(imported, model)


def test_older_names(folder: Path, model: EmoModel) -> None:
    def older_vae(name: str) -> str:
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        return name

    def older_wav2vec(name: str) -> str:
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            name = name.replace(f"parametrizations.weight.{new}", old)
        return f"wav2vec2.{name}"

    head = {"lm_head.weight": torch.zeros(2, 2)}
    edit(folder / "vae.safetensors", lambda state: {older_vae(name): t for name, t in state.items()})
    edit(folder / "wav2vec.safetensors", lambda s: {older_wav2vec(name): t for name, t in s.items()} | head)
    assert any(".query." in name for name in load_file(folder / "vae.safetensors"))
    assert_same(load(folder), model)


def test_problems_are_listed_by_name(folder: Path) -> None:
    def spoil(state: State) -> State:
        del state["imageproj.proj.bias"]
        state["imageproj.extra"] = torch.zeros(1)
        state["denoising_unet.conv_out.bias"] = torch.zeros(7)
        state["face_locator.conv_in.bias"][0] = float("nan")
        return state

    edit(folder / "net.safetensors", spoil)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    for part in ("missing: imageproj.proj.bias", "not known: imageproj.extra", "denoising_unet.conv_out.bias is [7]",
                 "NaN or infinite: face_locator.conv_in.bias"):  # fmt: skip
        assert part in str(caught.value)


def test_pickles_with_code_do_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "net.pth"
    path.write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        read_tensors(path)
    assert not (tmp_path / "ran").exists()


def test_old_and_odd_pickles(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(tmp_path / "old.bin")["a"], state["a"])
    torch.save({"state": state}, tmp_path / "nested.pth")
    with pytest.raises(CheckpointError, match="not a state dict"):
        read_tensors(tmp_path / "nested.pth")


def test_fp16_overflow_is_refused(model: EmoModel) -> None:
    other = build_model(model.config, seed=2)
    torch.nn.init.constant_(other.backbone.conv_out.bias, 7e4)
    with pytest.raises(CheckpointError, match=r"denoising_unet\.conv_out\.bias"):
        refuse_half_overflow(other, original_name)


def test_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def stop(model: EmoModel, out: Path, options: object, *_: object) -> None:
        calls.append((model, options))
        raise CheckpointError("far enough")

    monkeypatch.setattr(command, "export_bundle", stop)
    words = ["export", "--from", "hallo", "--checkpoint", str(folder), "-q", "-o", str(tmp_path / "out")]
    assert main([*words, "--resolution", "64", "--motion-from-latents"]) == 1
    ((imported, options),) = calls
    assert (imported.config.size, imported.config.frames) == (64, CASE.frames)
    assert imported.config.motion_source == "latents"
    assert "net.safetensors sha256:" in options.source
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from", "hallo"], "--checkpoint"),
        (["--frames", "8", "--preset", "tiny"], "--from"),
        (["--from", "hallo", "--checkpoint", "x", "--preset", "tiny"], "leave out"),
        ([], "--from hallo"),
    ],
)
def test_wrong_command_lines(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words, "-o", str(tmp_path / "b")]) == 2
    assert expected in capsys.readouterr().err


def test_the_files_that_the_page_shows_are_found(tmp_path: Path) -> None:
    (block,) = of_kind("downloads")
    names = names_in(block)
    lay_out(names, tmp_path)
    found = HalloFiles.find(tmp_path)
    parts = [path.relative_to(tmp_path) for path in (found.net, found.vae, found.wav2vec)]
    assert [str(part) for part in parts] == [name.rstrip("/") for name in names[:3]]
