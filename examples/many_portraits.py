"""One model, several portraits that say the same sentence, all at the same time.

    python examples/many_portraits.py speech.wav first.png second.png --folder videos

What the networks compute of a portrait is kept in a file beside its video. A second run finds it there.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emo_rt import Animator, Avatar, InputError


def avatar_of(animator: Animator, picture: Path, folder: Path) -> Avatar:
    """From its file if there is one that this model wrote; else made now, and kept."""
    kept = folder / f"{picture.stem}.avatar"
    if kept.exists():
        try:
            return animator.load_avatar(kept)
        except InputError as exc:  # another model wrote it
            print(f"{kept.name}: {exc}")
    avatar = animator.prepare(picture)
    avatar.save(kept)
    return avatar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voice")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("videos"))
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--preset")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)

    with Animator.load(arguments.bundle) as animator:

        def make(picture: Path) -> str:
            with avatar_of(animator, picture, arguments.folder) as avatar:
                video = animator.animate(avatar, arguments.voice, preset=arguments.preset)
                path = arguments.folder / f"{picture.stem}.mp4"
                stats = video.save(path)
            return f"{path}: {video.frame_count} frames in {stats.wall_s:.1f} s"

        # The device is shared out among the sessions; threads only wait, and write files.
        with ThreadPoolExecutor(max_workers=len(arguments.pictures)) as pool:
            for line in pool.map(make, arguments.pictures):
                print(line)


if __name__ == "__main__":
    main()
