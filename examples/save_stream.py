"""A voice that is still coming, saved as an MP4 while it is spoken.

    python examples/save_stream.py portrait.png speech.wav -o talking.mp4 --preset realtime

The file is fragmented: a player, or another process, can show what is there while the rest is being made.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emo_rt import Animator, VideoOptions, VideoWriter


def spoken(file: wave.Wave_read, writer: VideoWriter) -> Iterator[NDArray[np.int16]]:
    """The voice in blocks of 20 ms, as a microphone would give it. Each goes into the file, too."""
    while block := file.readframes(file.getframerate() // 50):
        pcm = np.frombuffer(block, "<i2")
        writer.write(None, pcm)
        yield pcm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("voice", help="a WAV file of 16 bits, one channel")
    parser.add_argument("-o", "--output", default="talking.mp4")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--preset")
    arguments = parser.parse_args()
    with wave.open(arguments.voice) as file, Animator.load(arguments.bundle) as animator:
        if (file.getsampwidth(), file.getnchannels()) != (2, 1):
            raise SystemExit(f"{arguments.voice} is not a WAV file of 16 bits and one channel")
        rate, fps, size = file.getframerate(), animator.config.fps, animator.config.size
        avatar = animator.prepare(arguments.picture)
        options = VideoOptions(fragmented=True, keyframe_interval=fps // 2)
        with VideoWriter(
            arguments.output, width=size, height=size, fps=fps, sample_rate=rate, options=options
        ) as writer:
            voice = spoken(file, writer)
            for chunk in animator.stream(avatar, voice, sample_rate=rate, preset=arguments.preset, paste_back=False):
                writer.write(chunk.frames)
                print(f"{chunk.start_s + len(chunk.frames) / fps:.2f} s are in the file")


if __name__ == "__main__":
    main()
