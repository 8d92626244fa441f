"""``python -m training.borrowed all --voices FOLDER --minutes 12``: everything, several processes at once, on one GPU.

One stage alone: ``vae``, ``hearing``, ``diffusion`` (encodes, trains teacher and student). ``pack`` makes files to
carry home of what is there so far, ``unpack`` makes weights of them again, ``bundle`` a bundle. Each goes on where it
stopped. Journals are ``*.jsonl`` in the folder, pictures ``*.png``, what the processes print ``*.log``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from training.borrowed import PRESET
from training.borrowed.clock import Log, wait_for

SHARES = {"vae": 0.5, "teacher": 0.28, "student": 0.12}
"""Of the whole time; the rest goes to starting, encoding and the last measures.

The autoencoder bounds what all later stages can show. On an H100 it had a quarter of the fine energy of unseen people
after 198 s (2,891 steps), half of it after 465 s (8,354 steps), and was still gaining.
"""
HEARING_SHARE = 0.23
"""Beside the autoencoder. After 43 s the audio encoder was within 0.02 of what it came to after 177 s."""


def everything(given: argparse.Namespace) -> None:
    """Draw, and train autoencoder and hearing meanwhile; then the diffusion."""
    begin, log = time.monotonic(), Log(given.folder, "plan")
    total = 60 * given.minutes
    budgets = {name: getattr(given, f"{name}_s") or share * total for name, share in SHARES.items()}
    log(minutes=given.minutes, **budgets)
    draw = [sys.executable, "-m", "training.corpus", "pictures"]
    workers = ["--workers", str(given.workers), "--size", str(given.size)]
    few = ["--clips", str(given.unseen_clips)]
    many = ["--clips", str(given.clips)] if given.clips else []
    start = [
        ("unseen", [*draw, str(given.voices / "test.npz"), str(given.folder / "unseen"), *workers, *few]),
        ("corpus", [*draw, str(given.voices / "train.npz"), str(given.folder / "corpus"), *workers, *many]),
    ]
    processes = {name: _start(given.folder, name, command, nice=5) for name, command in start}
    own = [sys.executable, "-m", "training.borrowed"]
    shared = ["--folder", str(given.folder), "--device", given.device, "--batch", str(given.batch)]
    shared += ["--enough", str(given.enough), "--capacity", str(given.capacity), *(["--eager"] if given.eager else [])]
    shared += ["--threads", str(given.threads)]
    budget = {"vae": budgets["vae"], "hearing": min(budgets["vae"], HEARING_SHARE * total)}
    for name, seconds in budget.items():
        processes[name] = _start(given.folder, name, [*own, name, *shared, "--seconds", str(seconds)])
    end = time.time() + total - (time.monotonic() - begin)
    times = ["--teacher-s", str(budgets["teacher"]), "--student-s", str(budgets["student"]), "--end", str(end)]
    processes["diffusion"] = _start(given.folder, "diffusion", [*own, "diffusion", *shared, *times])
    for name, process in processes.items():
        log(done=name, code=process.wait())
    from training.borrowed.parcel import pack

    pack(given.folder, given.folder / "result")
    log(done="all", minutes=(time.monotonic() - begin) / 60)


def _start(folder: Path, name: str, command: list[str], nice: int = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONUNBUFFERED": "1"}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            ["nice", "-n", str(nice), *command], stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def diffusion(given: argparse.Namespace) -> None:
    """Encode what was drawn once the autoencoder and the audio encoder are there; teacher; student; contact sheet."""
    from training import diffusion as stages
    from training.borrowed import student, teacher
    from training.borrowed.footage import Footage, Reels
    from training.borrowed.look import Scores
    from training.borrowed.told import quick_norms
    from training.stages import load_model

    folder, log = given.folder, Log(given.folder, "diffusion")
    seen = [Reels(folder / name, given.device, limit) for name, limit in (("corpus", given.capacity), ("unseen", 64))]
    wanted = [folder / f"{part}.weights.pt" for part in ("vae", "hearing")]
    wait_for(lambda: all(path.exists() for path in wanted), "autoencoder and audio encoder", 1e4)
    wait_for(lambda: len(seen[1].clips) >= 2 and bool(seen[0].clips), "clips", 1e4)
    for reels in seen:
        reels.close()
    begin = time.monotonic()
    parts = ["teacher"] if (folder / "teacher.weights.pt").exists() else []
    model = load_model(folder, "vae", "hearing", *parts, name=PRESET)
    if not parts:
        stages.begin(model)
    model = model.to(given.device)
    footages = [Footage(model, list(reels.clips.values()), d) for reels, d in zip(seen, (3, 0), strict=True)]
    frames = [clip["frames"] for clip in seen[1].clips.values()]
    clips = min(given.score_clips, min(len(f) for f in frames) // model.config.frames)
    scores = Scores(footages[1], frames, clips)
    log(clips=len(seen[0].clips), unseen=len(frames), encoded_s=time.monotonic() - begin)
    for reels in seen:
        reels.clips.clear()
    if given.device == "cuda":
        torch.cuda.empty_cache()
        quick_norms(model)
    record = given.device == "cuda" and not given.eager
    left = given.end - time.time() - given.student_s - 20 if given.end else given.teacher_s
    teacher.train(model, footages[0], scores, folder, min(given.teacher_s, left), given.batch, record)
    guided = ("unipc", 6, model.config.guidance)
    scores.sheet(model, {"teacher": guided}, folder / "teacher.png")
    log(teacher="done")
    left = given.end - time.time() - 15 if given.end else given.student_s
    if left <= 0:
        log(student="no time left")
        return
    student.train(model, footages[0], scores, folder, min(given.student_s, left), given.batch, record)
    log(student="one step", **scores.of(model, ("ddim", 1, 1.0)))
    scores.sheet(model, {"student": ("ddim", 1, 1.0)}, folder / "student.png")
    log(student="8 steps, guided", **scores.of(model, ("unipc", 8, model.config.guidance)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = _parser().parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    if given.stage == "all":
        everything(given)
    elif given.stage == "vae":
        from training.borrowed import autoencoder

        capacity = given.capacity * 30
        autoencoder.train(given.folder, given.device, given.seconds, given.batch, 10 * given.enough, capacity)
    elif given.stage == "hearing":
        from training.borrowed import hearing

        hearing.train(given.folder, given.device, given.seconds, 2 * given.batch, given.enough)
    elif given.stage == "diffusion":
        diffusion(given)
    elif given.stage == "bundle":
        from training.bundle import write_bundle

        write_bundle(given.folder, net=given.net, name=PRESET)
    else:
        from training.borrowed import parcel

        result = given.result or given.folder / "result"
        parcel.pack(given.folder, result) if given.stage == "pack" else parcel.unpack(result, given.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.borrowed", description=__doc__)
    parser.add_argument("stage", choices=("all", "vae", "hearing", "diffusion", "pack", "unpack", "bundle"))
    parser.add_argument("--folder", type=Path, default=Path("runs/demo256"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--voices", type=Path, default=Path("voices"), help="folder with train.npz and test.npz")
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything together")
    parser.add_argument("--seconds", type=float, default=180.0, help="for vae or hearing alone")
    parser.add_argument("--vae-s", type=float, help="instead of its share of the minutes")
    parser.add_argument("--teacher-s", type=float)
    parser.add_argument("--student-s", type=float)
    parser.add_argument("--end", type=float, help="when the diffusion has to be over, seconds since 1970")
    parser.add_argument("--batch", type=int, default=64, help="pictures and clips per step")
    parser.add_argument("--clips", type=int, help="only so many clips of the pack")
    parser.add_argument("--unseen-clips", type=int, default=24)
    parser.add_argument("--score-clips", type=int, default=6, help="clips in a row that are measured")
    parser.add_argument("--size", type=int, default=256, help="side of a frame, pixels: the preset's")
    parser.add_argument("--enough", type=int, default=60, help="clips to wait for before training starts")
    parser.add_argument("--capacity", type=int, default=1600, help="clips that may lie in the device's memory")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw")
    parser.add_argument("--threads", type=int, default=4, help="CPU threads of each training process")
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--result", type=Path, help="folder of what travels; default: result in the folder")
    parser.add_argument("--net", default="student", help="which network a bundle has: teacher or student")
    return parser


if __name__ == "__main__":
    main()
