"""The command `emo-rt`: runs what was asked for, and says in one line what went wrong.

Exit codes: 0 done, 1 it failed, 2 the command line or a setting is wrong, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from emo_rt.cli import demo, doctor, evaluate, faces, info, terminal
from emo_rt.cli.arguments import DTYPES, USAGE, make_parser
from emo_rt.errors import Cancelled, ConfigError, EmoRtError, MissingDependencyError
from emo_rt.media.video_file import VideoOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.model.upgrade import upgrade_bundle

DONE, FAILED, STOPPED = 0, 1, 130
"""Exit codes; :data:`USAGE` is the fourth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; never raises."""
    terminal.tolerate_narrow_encodings()
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:  # --help, --version, or a wrong command line
        return int(exc.code or DONE)
    if args.command is None:
        parser.print_help()
        return DONE
    with terminal.session(debug=args.debug):
        return _guarded(args)


def _guarded(args: argparse.Namespace) -> int:
    """Run the command; every way to fail becomes one line and an exit code."""
    try:
        code = int(RUNS[args.command](args) or DONE)
        sys.stdout.flush()
    except (KeyboardInterrupt, Cancelled):
        return _failed(args, STOPPED, "stopped; no output was written")
    except BrokenPipeError:  # `emo-rt info … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EmoRtError as exc:
        return _failed(args, USAGE if isinstance(exc, ConfigError) else FAILED, f"error: {exc}")
    except OSError as exc:  # standard output is full, a temporary folder is gone
        return _failed(args, FAILED, f"error: {exc}")
    except Exception as exc:  # noqa: BLE001 - what a user sees of a bug
        hint = "" if args.debug else " (a bug in emo-rt; --debug shows where)"
        return _failed(args, FAILED, f"error: unexpected {type(exc).__name__}: {exc}{hint}")
    return code


def _failed(args: argparse.Namespace, code: int, message: str) -> int:
    if args.debug:
        traceback.print_exc()
    terminal.note(" ".join(message.split()))
    return code


def _animate(args: argparse.Namespace) -> None:
    if args.out is None and args.frames_dir is None:
        raise ConfigError("there is nothing to write; pass -o OUT.mp4, --frames-dir DIR, or both")
    cost = ("steps", "solver", "guidance", "guidance_interval", "deep_cache")
    options = _options(args, "seed", *cost, "speed", "motion_scale", "paste_back", "max_audio_s")
    video = VideoOptions(
        codec=args.codec,
        crf=args.crf,
        preset=args.preset,
        fragmented=args.fragmented,
        mark_generated=not args.no_generated_mark,
    )
    machine = {name: getattr(args, name) for name in ("bundle", "device", "backend", "threads", "quiet")}
    picture = {
        name: getattr(args, name)
        for name in ("frames_dir", "overwrite", "face_box", "face_index", "head_room", "max_side", "trace")
    }
    picture["face"] = FaceInputs(
        args.face_embedding, args.embedding_model, args.no_face_embedding, args.masks, args.landmarks
    )
    demo.animate(demo.Job(args.portrait, args.audio, args.out, options=options, video=video, **machine, **picture))


def _demo(args: argparse.Namespace) -> None:
    machine = {name: getattr(args, name) for name in ("device", "backend", "threads", "overwrite", "quiet")}
    options = _options(args, "seed", "steps", "solver")
    face = demo.DEMO_FACE
    demo.demo(demo.Job(demo.DEMO_PORTRAIT, demo.DEMO_VOICE, args.out, face_box=face, options=options, **machine))


def _options(args: argparse.Namespace, *names: str) -> AnimateOptions:
    given = {name: getattr(args, name) for name in names}
    return AnimateOptions(preset=args.mode, **{name: value for name, value in given.items() if value is not None})


def _export(args: argparse.Namespace) -> None:
    if args.half_storage and args.dtype == "fp16":
        raise ConfigError("--half-storage is for --dtype fp32; with fp16 the weights are halves already")
    if args.upgrade is not None:
        _upgrade(args)
        return
    _check_source(args)
    try:
        from emo_rt.export import command
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(f"exporting needs {exc.name}; pip install 'emo_rt[export]'") from exc
    command.run(
        command.Request(
            out=args.out,
            preset=args.preset,
            hallo=command.HalloRequest(**_hallo_fields(args)) if args.source else None,
            random_weights=args.random_weights,
            seed=args.seed,
            dtype=DTYPES[args.dtype],
            half_storage=args.half_storage,
            guidance=(True, False) if args.both else (not args.no_guidance,),
            deep_cache=args.deep_cache,
            check=args.check,
            quiet=args.quiet,
        )
    )


def _upgrade(args: argparse.Namespace) -> None:
    if args.source or args.preset or args.random_weights:
        raise ConfigError("--upgrade converts a bundle as it is; leave out --from, --preset and --random-weights")
    bundle = upgrade_bundle(args.upgrade, args.out)
    if not args.quiet:
        facts = f"schema {bundle.schema}, {terminal.size(bundle.size_bytes)} in {len(bundle.files)} files"
        terminal.say(f"{bundle.path}: {facts}; {args.upgrade} is as it was")


def _build(args: argparse.Namespace) -> None:
    from emo_rt.engines import command, options

    how = options.BuilderOptions(args.optimization_level, args.workspace, args.strip_weights)
    build = options.BuildRequest(args.package, args.target, args.graphs, how, args.cache, args.force)
    command.run(command.Request(args.bundle, build, as_json=args.json, quiet=args.quiet))


HALLO_FIELDS = {"checkpoint": "--checkpoint", "vae": "--vae", "wav2vec": "--wav2vec", "config": "--config",
                "resolution": "--resolution", "frames": "--frames", "motion_frames": "--motion-frames",
                "attention_heads": "--attention-heads", "motion_from_latents": "--motion-from-latents"}  # fmt: skip
"""Fields of ``args`` that belong to ``--from``, with their options."""


def _check_source(args: argparse.Namespace) -> None:
    """Exactly one source of weights, and only the options that belong to it."""
    given = [option for name, option in HALLO_FIELDS.items() if getattr(args, name)]
    if args.source is None and given:
        raise ConfigError(f"{given[0]} belongs to --from; pass --from hallo")
    if args.source is None and args.preset is None:
        raise ConfigError("say what to export: --from hallo --checkpoint PATH, or --preset NAME --random-weights")
    if args.source is not None and (args.preset is not None or args.random_weights):
        raise ConfigError("--from brings its own weights; leave out --preset and --random-weights")
    if args.source is not None and args.checkpoint is None:
        raise ConfigError("--from needs --checkpoint PATH: the checkpoint's folder, or net.pth")


def _hallo_fields(args: argparse.Namespace) -> dict[str, Any]:
    return {"size" if name == "resolution" else name: getattr(args, name) for name in HALLO_FIELDS}


def _faces(args: argparse.Namespace) -> None:
    faces.show(faces.Request(args.picture, as_json=args.json, out=args.out, overwrite=args.overwrite))


def _info(args: argparse.Namespace) -> None:
    info.show(args.bundle, as_json=args.json)


def _bench(args: argparse.Namespace) -> None:
    from emo_rt.benchmarks import bench, subject

    how = ("bundle", "device", "backend", "threads", "solver", "steps", "guidance", "rounds", "clips", "fps")
    what = ("only", "against", "quick", "json", "markdown", "chart", "compare", "quiet")
    setting = subject.Setting(**{name: getattr(args, name) for name in how})
    bench.run(bench.Request(setting=setting, **{name: getattr(args, name) for name in what}))


def _doctor(args: argparse.Namespace) -> int:
    return DONE if doctor.show(as_json=args.json) else FAILED


RUNS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "demo": _demo,
    "animate": _animate,
    "faces": _faces,
    "export": _export,
    "build": _build,
    "info": _info,
    "doctor": _doctor,
    "bench": _bench,
    "evaluate": evaluate.run,
}
"""What each command does."""
