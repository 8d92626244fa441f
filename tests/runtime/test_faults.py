"""An error at any stage of a run leaves no file, no thread and no descriptor, and the next call works."""

from __future__ import annotations

import gc
import os
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emo_rt import Animator
from emo_rt.errors import PortraitError
from emo_rt.media import audio, mp4, picture, video_target
from emo_rt.media.audio import Resampler
from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.paste import Paster
from emo_rt.runtime.clip_maker import ClipMaker
from emo_rt.runtime.worker import Worker
from emo_rt.runtime.worker_pool import WorkerPool


class Fault(Exception):
    """What is thrown in."""


STAGES: dict[str, tuple[Any, str]] = {
    "opening the picture": (picture, "open_file"),
    "decoding the picture": (picture, "_to_rgb"),
    "opening the sound": (audio, "open_media"),
    "decoding the sound": (audio, "_decode"),
    "resampling": (Resampler, "push"),
    "end of the sound": (Resampler, "flush"),
    "hidden file": (video_target, "whole_file"),
    "opening the encoder": (mp4.Mux, "add_video"),
    "adding the sound": (mp4.Mux, "add_audio"),
    "lending a worker": (WorkerPool, "take"),
    "making a worker": (Worker, "_bind"),
    "loading features": (Worker, "load"),
    "planning": (ClipMaker, "_plan"),
    "hearing": (Worker, "hear"),
    "beginning a clip": (Worker, "begin"),
    "noise": (ClipMaker, "_noise"),
    "denoising": (Worker, "denoise"),
    "progress": (ClipMaker, "_tell"),
    "carrying over": (Worker, "finish"),
    "decoding frames": (Worker, "decode"),
    "pasting": (Paster, "__call__"),
    "a job that decodes": (ClipMaker, "_decoded"),
    "a job that pastes": (ClipMaker, "_paste"),
    "delivering": (ClipMaker, "_deliver"),
    "marking": (FrameMarker, "__call__"),
    "encoding": (mp4.Mux, "write"),
    "finishing the file": (mp4.Mux, "finish"),
    "naming the file": (video_target.PathTarget, "commit"),
}
"""Where: an owner, and the name of what fails there."""


def descriptors() -> list[str]:
    folder = Path("/proc/self/fd")
    return sorted(os.listdir(folder)) if folder.exists() else []


def make(animator: Animator, inputs: Path, target: Path) -> bytes:
    with animator.prepare(str(inputs / "face.png"), face_box="full") as avatar:
        animator.animate(avatar, inputs / "voice.wav", steps=1, guidance=1, paste_back=True).save(target)
    return target.read_bytes()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    Image.new("RGB", (64, 64)).save(folder / "face.png")
    with wave.open(str(folder / "voice.wav"), "wb") as file:  # two clips, at a rate that must be changed
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(1).integers(-8000, 8000, 48_000 // 5, np.int16).tobytes())
    return folder


@pytest.fixture(scope="module")
def whole_video(tiny_animator: Animator, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tiny_animator, inputs, tmp_path_factory.mktemp("whole") / "a.mp4")


@pytest.mark.parametrize(
    ("stage", "call"),
    [*((stage, 1) for stage in STAGES), *((stage, 2) for stage in ("hearing", "denoising", "encoding"))],
)
def test_an_error_at_any_stage_leaves_nothing_and_the_next_call_works(
    tiny_animator: Animator, inputs: Path, whole_video: bytes, stage: str, call: int, tmp_path: Path
) -> None:
    owner, name = STAGES[stage]
    real, calls = getattr(owner, name), [0]

    def failing(*args: Any, **settings: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Fault(stage)
        return real(*args, **settings)

    gc.collect()
    before, threads = descriptors(), threading.active_count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing)
        if call == 1:
            with pytest.raises((Fault, PortraitError), match=stage):
                make(tiny_animator, inputs, tmp_path / "a.mp4")
        else:
            try:
                made = make(tiny_animator, inputs, tmp_path / "a.mp4")
            except (Fault, PortraitError):
                made = None
            assert (made is None) == (calls[0] >= call)
            (tmp_path / "a.mp4").unlink(missing_ok=True)
    assert calls[0] > 0
    gc.collect()
    assert (os.listdir(tmp_path), threading.active_count(), descriptors()) == ([], threads, before)
    assert make(tiny_animator, inputs, tmp_path / "a.mp4") == whole_video
