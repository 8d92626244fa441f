"""From nothing to a first video: the commands of the set-up lines as programs, and the packaged model."""

from __future__ import annotations

import shutil

import pytest

from emo_rt.cli import demo
from emo_rt.media.video_file import probe
from tests.documents import Block, Place, blocks_of, printed, run_block


@pytest.mark.parametrize("block", blocks_of("first run"))
def test_block(block: Block, place: Place) -> None:
    run_block(block, place)


def test_the_packaged_model_runs_at_the_command_line(place: Place) -> None:
    """The blocks run a smaller one in its place."""
    shutil.rmtree(place.folder / "demo")
    command = ["animate", str(demo.DEMO_PORTRAIT), "speech.wav", "-o", "packaged.mp4", "--threads", "1", "--steps", "1"]
    printed([*command, "--mode", demo.DEMO_MODE, "--face-box", "122,94,390,424"], place.folder)
    found = probe(place.folder / "packaged.mp4")
    assert (found.frames, set(found.codecs)) == (13, {"h264", "aac"})
