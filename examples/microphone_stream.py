"""Sound that arrives at the speed of speech, in blocks of 20 ms, as from a microphone or a telephone.

    python examples/microphone_stream.py portrait.png speech.wav --preset realtime

Prints, clip by clip, how long after their sound had been spoken the frames were there. Where that grows, the machine is
too slow for the preset.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import wave
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from emo_rt import AnimateOptions, Animator


async def microphone(sound: NDArray[np.int16], rate: int, start: float) -> AsyncIterator[NDArray[np.int16]]:
    """Give each block of 20 ms when it has been spoken."""
    block = rate // 50
    for first in range(0, len(sound), block):
        spoken = start + (first + block) / rate
        await asyncio.sleep(spoken - time.monotonic())
        yield sound[first : first + block]


async def talk(animator: Animator, picture: str, voice: str, options: AnimateOptions) -> None:
    """Animate the sound as it comes, and say how late the frames are."""
    with wave.open(voice) as file:
        if file.getsampwidth() != 2:
            raise SystemExit(f"{voice} has {8 * file.getsampwidth()} bits; expected a WAV file of 16 bits")
        rate, channels = file.getframerate(), file.getnchannels()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels)
    avatar = await asyncio.to_thread(animator.prepare, picture)
    await asyncio.to_thread(animator.warmup, options)
    start = time.monotonic()
    async for chunk in animator.stream(avatar, microphone(sound, rate, start), sample_rate=rate, options=options):
        spoken = chunk.start_s + len(chunk.frames) / animator.config.fps
        late = time.monotonic() - start - spoken
        print(f"clip {chunk.index}: {len(chunk.frames)} frames, {late:.2f} s after their sound")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("voice", help="a WAV file of 16 bits")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--preset")
    arguments = parser.parse_args()
    with Animator.load(arguments.bundle) as animator:
        asyncio.run(talk(animator, arguments.picture, arguments.voice, AnimateOptions(preset=arguments.preset)))


if __name__ == "__main__":
    main()
