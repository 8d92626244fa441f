"""A conversation with a face, recorded: it idles, speaks, is interrupted in the middle of a word, and speaks again.

    python examples/live_to_file.py portrait.png speech.wav -o conversation.mp4 --preset realtime

The voice is pushed as a voice synthesiser gives it: all at once, faster than it is spoken. What comes out, picture and
sound of each frame, is written side by side.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from emo_rt import Animator, LivePair, LiveSession, VideoWriter


def conversation(session: LiveSession, voice: NDArray[np.int16], fps: int) -> Iterator[LivePair]:
    """A second of silence, half of an utterance, a second of silence, all of it, silence."""
    rate = session.settings.sample_rate
    yield from islice(session, fps)
    session.push(voice)
    session.flush()
    spoken = 0
    while spoken < len(voice) * fps // rate // 2:
        pair = next(session)
        spoken += pair.speaking
        yield pair
    print(f"interrupted after {session.clear():.2f} s of speech")
    yield from islice(session, fps)
    session.push(voice)
    session.flush()
    for pair in session:
        yield pair
        if pair.is_last:
            break
    yield from islice(session, fps // 2)


def record(session: LiveSession, pairs: Iterator[LivePair], fps: int, path: str) -> int:
    """Write pairs to an MP4; how many that were."""
    first = next(pairs)
    height, width = first.frame.shape[:2]
    rate = session.settings.sample_rate
    with VideoWriter(path, width=width, height=height, fps=fps, sample_rate=rate) as writer:
        writer.write(first.frame[None], first.audio)
        for pair in pairs:
            writer.write(pair.frame[None], pair.audio)
        return writer.frame_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("voice", help="a WAV file of 16 bits, one channel")
    parser.add_argument("-o", "--output", default="conversation.mp4")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--preset")
    arguments = parser.parse_args()
    with wave.open(arguments.voice) as file:
        if (file.getsampwidth(), file.getnchannels()) != (2, 1):
            raise SystemExit(f"{arguments.voice} is not a WAV file of 16 bits and one channel")
        rate = file.getframerate()
        voice = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    with Animator.load(arguments.bundle) as animator:
        avatar = animator.prepare(arguments.picture)
        fps = animator.config.fps
        # Nobody watches while it is recorded: pairs are taken as soon as they are made. A call takes pace="clock".
        with animator.live(avatar, sample_rate=rate, pace="asap", queue_s=600, preset=arguments.preset) as session:
            frames = record(session, conversation(session, voice, fps), fps, arguments.output)
            print(f"{frames} frames with preset {session.stats.rung}, {session.stats.late_frames} of them late")


if __name__ == "__main__":
    main()
