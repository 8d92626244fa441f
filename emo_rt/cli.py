"""The command `emo-rt`: argument parsing only.

Exit codes: 0 done, 1 it failed, 2 the command line or a setting is wrong, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from emo_rt import demo, doctor, info, terminal
from emo_rt.backends import BACKENDS, DEVICES
from emo_rt.errors import Cancelled, ConfigError, EmoRtError, MissingDependencyError, PortraitError
from emo_rt.faces import FaceBox, parse_face_box
from emo_rt.identity import FaceInputs
from emo_rt.options import MODES, SOLVERS, AnimateOptions
from emo_rt.tensorrt_package import PACKAGES
from emo_rt.version import __version__
from emo_rt.video import FORMATS, VideoOptions

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit codes."""
PRESETS = ("emo", "hallo", "demo", "tiny")
"""Names of :func:`emo_rt.export.presets.preset`; that module comes with an extra."""
DTYPES: dict[str, Literal["float32", "float16"]] = {"fp32": "float32", "fp16": "float16"}
"""``--dtype`` → name in a bundle."""
ANIMATE, VIDEO = AnimateOptions(), VideoOptions()
"""Where the defaults come from."""

OPENING = """Talking-head video from one portrait and a voice.

First try:  emo-rt demo
Then:       emo-rt animate portrait.jpg speech.wav -o talking.mp4
"""
ANIMATE_EXAMPLES = """examples:
  emo-rt animate portrait.jpg speech.wav -o talking.mp4
  emo-rt animate team.jpg song.mp3 -o song.mp4 --face-box 412,172,612,352 --speed 1.2 --seed 7
  emo-rt animate portrait.jpg speech.wav -o - | ffplay -"""

BUILD_EXAMPLES = """examples:
  emo-rt build my_bundle
  emo-rt build my_bundle --package tensorrt_rtx --target sm86,sm89,sm120"""

BENCH_EXAMPLES = """examples:
  emo-rt bench --quick
  emo-rt bench --json before.json --chart stages.html
  emo-rt bench --only latency,overhead --compare before.json
  emo-rt bench --against torch"""


class Parser(argparse.ArgumentParser):
    """Errors take one line, in the form of all our errors."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(USAGE, f"error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; never raises."""
    terminal.tolerate_narrow_encodings()
    try:
        args = _parser().parse_args(argv)
    except SystemExit as exc:  # --help, --version, or a wrong command line
        return int(exc.code or DONE)
    with terminal.session(debug=args.debug):
        return _guarded(args)


def _guarded(args: argparse.Namespace) -> int:
    """Run the command; every way to fail becomes one line and an exit code."""
    try:
        code = int(args.run(args) or DONE)
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


def _parser() -> Parser:
    parser = Parser(prog="emo-rt", description=OPENING)
    parser.add_argument("--version", action="version", version=f"emo-rt {__version__}")
    parser.set_defaults(run=lambda _: parser.print_help(), debug=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (_add_demo, _add_animate, _add_export, _add_build, _add_info, _add_doctor, _add_bench):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], about: str, **more: Any) -> Any:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", **more)
    parser.add_argument("--debug", action="store_true", help="log everything and show tracebacks (default: off)")
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "animate the portrait and the voice that come with emo_rt")
    parser.add_argument("-o", "--out", default="demo.mp4", type=_video_name, help="video (default: %(default)s)")
    _add_mode(parser, demo.DEMO_MODE)
    parser.add_argument("--seed", type=int, default=ANIMATE.seed, help="key of the noise (default: %(default)s)")
    _add_machine(parser)
    _add_overwrite(parser)
    _add_quiet(parser)


def _add_animate(commands: Any) -> None:
    parser = _command(
        commands, "animate", _animate, "animate a portrait with a voice or a song", epilog=ANIMATE_EXAMPLES
    )
    parser.add_argument("portrait", type=Path, help="picture of a person: PNG, JPEG, WebP, …")
    parser.add_argument("audio", type=Path, help="sound, or a video with sound: WAV, MP3, M4A, FLAC, MP4, …")
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        type=_video_name,
        help="video to write: .mp4, .m4v, .mov; - = fragmented MP4 to stdout",
    )
    output.add_argument(
        "--frames-dir", metavar="DIR", type=Path, help="also, or without -o only, write PNG frames into this new folder"
    )
    _add_overwrite(output)
    _add_motion(parser.add_argument_group("motion"))
    _add_face(parser.add_argument_group("picture"))
    _add_identity(parser.add_argument_group("face (Hallo models only)"))
    _add_encoding(parser.add_argument_group("encoding"))
    machine = parser.add_argument_group("model and machine")
    machine.add_argument("--bundle", metavar="DIR", default="demo", help="model folder, or demo (default: %(default)s)")
    _add_machine(machine)
    machine.add_argument(
        "--trace", metavar="OUT.json", type=Path, help="write which stage worked when, for Perfetto or chrome://tracing"
    )
    _add_quiet(parser)


def _add_motion(group: Any) -> None:
    group.add_argument(
        "--seed", type=int, default=ANIMATE.seed, help="key of the noise: same seed, same video (default: %(default)s)"
    )
    _add_mode(group, "quality")
    group.add_argument(
        "--guidance",
        type=float,
        help="guidance scale, 0 … 50; 1 = none, about twice as fast (default: the model's own)",
    )
    group.add_argument(
        "--guidance-interval", metavar="FIRST,LAST", type=_two_numbers,
        help="guidance only in this part of the steps, like 0.2,0.8; the others cost half (default: the mode's)",
    )  # fmt: skip
    group.add_argument(
        "--deep-cache", metavar="N", type=int,
        help="compute the inner blocks in every Nth step only; for bundles exported for it (default: the mode's)",
    )  # fmt: skip
    group.add_argument(
        "--speed",
        type=float,
        default=ANIMATE.speed,
        help="head speed: speech 0.1-1.0, song 1.0-1.3 (default: %(default)s)",
    )
    group.add_argument(
        "--motion-scale", metavar="P,F,L", type=_three_numbers, default=ANIMATE.motion_scale,
        help="weight of the sound on pose, face, lips; Hallo models only (default: 1,1,1)",
    )  # fmt: skip


def _add_mode(group: Any, default: str) -> None:
    group.add_argument(
        "--mode", choices=MODES, default=default, help="how fast, the slowest and best first (default: %(default)s)"
    )
    group.add_argument("--steps", type=int, help="solver steps per clip (default: the mode's)")
    group.add_argument("--solver", choices=SOLVERS, help="solver (default: the mode's)")


def _add_face(group: Any) -> None:
    group.add_argument(
        "--face-box", metavar="L,T,R,B", type=_face_box,
        help="left,top,right,bottom of the face in pixels, or full for the largest centred square (default: found)",
    )  # fmt: skip
    group.add_argument(
        "--head-room", metavar="SHARE", type=float,
        help="how far beyond its box the face may move: 0 = hold it still, inf = anywhere (default: the model's)",
    )  # fmt: skip
    group.add_argument(
        "--max-side", type=int, default=1920, help="longest side of the video in pixels (default: %(default)s)"
    )
    group.add_argument(
        "--paste-back", action=argparse.BooleanOptionalAction, default=ANIMATE.paste_back,
        help="put the animated square back into the whole picture (default: if the picture is larger)",
    )  # fmt: skip


def _add_identity(group: Any) -> None:
    embedding = group.add_mutually_exclusive_group()
    embedding.add_argument(
        "--face-embedding", metavar="FILE.npy", type=Path, help="embedding of the face, made by a recognition model"
    )
    embedding.add_argument(
        "--embedding-model", metavar="FILE.onnx", type=Path,
        help="recognition model that computes it, like InsightFace's glintr100.onnx; brings a licence of its own",
    )  # fmt: skip
    embedding.add_argument(
        "--no-face-embedding", action="store_true", help="do without an embedding, at the cost of likeness"
    )
    group.add_argument(
        "--landmarks", metavar="FILE.npy", type=Path,
        help="MediaPipe face mesh, (468 or 478, 2) pixels of the picture (default: estimated from the face box)",
    )  # fmt: skip
    group.add_argument(
        "--masks", metavar="FULL,FACE,LIP", type=_three_files,
        help="three square pictures of where the sound acts, white = fully (default: from landmarks or face box)",
    )  # fmt: skip


def _add_encoding(group: Any) -> None:
    group.add_argument(
        "--codec",
        choices=("auto", "h264_nvenc", "libx264"),
        default=VIDEO.codec,
        help="H.264 encoder (default: %(default)s)",
    )
    group.add_argument("--crf", type=int, default=VIDEO.crf, help="quality, 0 (best) … 51 (default: %(default)s)")
    group.add_argument(
        "--preset",
        choices=("fast", "balanced", "best"),
        default=VIDEO.preset,
        help="encoding effort (default: %(default)s)",
    )
    group.add_argument("--fragmented", action="store_true", help="MP4 that plays while it is written (default: off)")
    group.add_argument(
        "--no-generated-mark",
        action="store_true",
        help="don't mark the file as AI-generated in its metadata (default: mark)",
    )


def _add_machine(group: Any) -> None:
    group.add_argument(
        "--device", choices=DEVICES, default="auto", help="only auto chooses by itself (default: %(default)s)"
    )
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="runtime (default: %(default)s)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads per graph (default: one per core)")


def _add_overwrite(group: Any) -> None:
    group.add_argument("--overwrite", action="store_true", help="replace an existing video (default: refuse)")


def _add_quiet(group: Any) -> None:
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, no receipt; errors and warnings only (default: off)"
    )


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", _export, "write a model as a bundle that emo_rt runs (needs emo_rt[export])")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="bundle folder; new or empty")
    weights = parser.add_argument_group("model")
    weights.add_argument(
        "--preset", choices=PRESETS,
        help="emo (paper, full size), hallo (layout of that checkpoint), demo (small), tiny (tests); "
        "with --random-weights",
    )  # fmt: skip
    weights.add_argument(
        "--random-weights", action="store_true", help="untrained weights, to measure speed (default: off)"
    )
    weights.add_argument("--seed", type=int, default=0, help="seed of the random weights (default: %(default)s)")
    _add_hallo(parser.add_argument_group("published weights"))
    form = parser.add_argument_group("form")
    form.add_argument(
        "--dtype",
        choices=DTYPES,
        default="fp32",
        help="arithmetic: fp32 for CPUs, fp16 for GPUs (default: %(default)s)",
    )
    form.add_argument(
        "--half-storage", action="store_true", help="store fp32 weights as fp16: half the size (default: off)"
    )
    steps = form.add_mutually_exclusive_group()
    steps.add_argument(
        "--no-guidance", action="store_true", help="only the step graph without guidance (default: only with)"
    )
    steps.add_argument("--both", action="store_true", help="both step graphs (default: only with guidance)")
    form.add_argument(
        "--deep-cache", metavar="LAYERS", type=int,
        help="also step graphs for animate --deep-cache: they compute 0, 1, … of the outermost layers on the way down "
        "and one more on the way up (default: none)",
    )  # fmt: skip
    form.add_argument(
        "--check", action=argparse.BooleanOptionalAction,
        help="run every graph in ONNX Runtime and compare it with torch (default: for demo and tiny only; full-size "
        "models take many minutes and twice the memory)",
    )  # fmt: skip
    _add_quiet(parser)


def _add_hallo(group: Any) -> None:
    group.add_argument("--from", dest="source", choices=("hallo",), help="import a Hallo or Hallo2 checkpoint")
    group.add_argument(
        "--checkpoint", metavar="PATH", type=Path,
        help="its folder, with hallo/net.pth, sd-vae-ft-mse/ and wav2vec/wav2vec2-base-960h/, or net.pth itself",
    )  # fmt: skip
    group.add_argument("--vae", metavar="PATH", type=Path, help="file or folder (default: in the checkpoint's folder)")
    group.add_argument(
        "--wav2vec", metavar="PATH", type=Path, help="file or folder (default: in the checkpoint's folder)"
    )
    group.add_argument(
        "--config", metavar="FILE", type=Path,
        help="JSON with what the weights do not say: size, frames, motion_frames, attention_heads, cfg, and the "
        "sections vae, wav2vec, scheduler; the options below go before it (default: config.json beside net.pth, else "
        "the published settings)",
    )  # fmt: skip
    group.add_argument("--resolution", metavar="N", type=int, help="width and height in pixels (default: 512)")
    group.add_argument("--frames", metavar="N", type=int, help="frames per clip (default: 16)")
    group.add_argument("--motion-frames", metavar="N", type=int, help="motion frames per clip (default: 2)")
    group.add_argument("--attention-heads", metavar="N", type=int, help="heads of the UNets (default: 8)")
    group.add_argument(
        "--motion-from-latents", action="store_true",
        help="take motion frames as latents: faster, not what the original does (default: decode and encode them)",
    )  # fmt: skip


def _add_build(commands: Any) -> None:
    parser = _command(
        commands, "build", _build, "build TensorRT engines of a bundle, those that are absent or stale",
        epilog=BUILD_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("bundle", nargs="?", default="demo", help="bundle folder, or demo (default: %(default)s)")
    parser.add_argument(
        "--package", choices=("auto", *PACKAGES), default="auto",
        help="auto takes the first that is installed (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--target", default="current", metavar="GPU",
        help="the GPU here; tensorrt_rtx also builds for others: sm86 (RTX 30), sm89 (RTX 40), sm120 (RTX 50), sm121 "
        "(GB10), several with commas for one plan that serves all (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--graphs", metavar="NAME,…", type=_names, help="only these graphs (default: all)")
    parser.add_argument(
        "--optimization-level", type=int, default=3, metavar="N",
        help="0 builds fastest, 5 runs fastest (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--workspace", type=int, metavar="MIB", help="most scratch memory of one layer (default: all of the GPU's)"
    )
    parser.add_argument(
        "--strip-weights", action="store_true",
        help="small plans that take their weights from the bundle at load; needs a GPU (default: off)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", metavar="DIR", type=Path,
        help="folder for engines (default: $EMO_RT_ENGINE_CACHE, else the bundle, else the user's cache)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="build again what is up to date (default: off)")
    _add_json(parser)
    _add_quiet(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", _info, "show what is in a bundle and verify its hashes")
    parser.add_argument("bundle", nargs="?", default="demo", help="bundle folder, or demo (default: %(default)s)")
    _add_json(parser)


def _add_doctor(commands: Any) -> None:
    about = "show what this machine can do, and what to install for more"
    _add_json(_command(commands, "doctor", _doctor, about, epilog="exit code: 0 if videos can be made here, else 1"))


def _add_bench(commands: Any) -> None:
    parser = _command(commands, "bench", _bench, "measure how fast a model is on this machine", epilog=BENCH_EXAMPLES)
    parser.add_argument("--bundle", metavar="DIR", default="demo", help="model folder, or demo (default: %(default)s)")
    parser.add_argument(
        "--only", metavar="NAME,…", type=_names, default=(),
        help="some of latency, stream, throughput, avatars, stages, overhead, cold_start (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--against", choices=("torch",), help="also run the plain torch formulation (needs emo_rt[export]; slow)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--steps", type=int, default=20, help="solver steps per clip (default: %(default)s)")
    how.add_argument("--solver", choices=SOLVERS, default=ANIMATE.solver, help="default: %(default)s")
    how.add_argument("--guidance", type=float, help="guidance scale, 0 … 50; 1 = none (default: the model's own)")
    how.add_argument("--rounds", type=int, default=5, help="repetitions of what is short (default: %(default)s)")
    how.add_argument("--clips", type=int, default=6, help="clips of the long runs (default: %(default)s)")
    how.add_argument("--fps", type=float, help="frame rate at which a frame is late (default: the model's)")
    how.add_argument(
        "--quick", action="store_true", help="few steps and rounds: only to see that it runs (default: off)"
    )
    _add_machine(how)
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", type=Path, help="result with a stable schema")
    output.add_argument("--markdown", metavar="FILE", type=Path, help="the tables as Markdown")
    output.add_argument("--chart", metavar="FILE", type=Path, help="where the time goes: .html, .svg or .png")
    output.add_argument("--compare", metavar="OLD.json", type=Path, help="show ratios to an earlier --json result")
    _add_quiet(output)


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON with a stable schema (default: as text)")


def _animate(args: argparse.Namespace) -> None:
    if args.out is None and args.frames_dir is None:
        raise ConfigError("there is nothing to write; pass -o OUT.mp4, --frames-dir DIR, or both")
    cost = ("steps", "solver", "guidance", "guidance_interval", "deep_cache")
    options = _options(args, "seed", *cost, "speed", "motion_scale", "paste_back")
    video = VideoOptions(
        codec=args.codec,
        crf=args.crf,
        preset=args.preset,
        fragmented=args.fragmented,
        mark_generated=not args.no_generated_mark,
    )
    machine = {name: getattr(args, name) for name in ("bundle", "device", "backend", "threads", "quiet")}
    picture = {
        name: getattr(args, name) for name in ("frames_dir", "overwrite", "face_box", "head_room", "max_side", "trace")
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
    return AnimateOptions.mode(args.mode, **{name: value for name, value in given.items() if value is not None})


def _export(args: argparse.Namespace) -> None:
    if args.half_storage and args.dtype == "fp16":
        raise ConfigError("--half-storage is for --dtype fp32; with fp16 the weights are halves already")
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


def _video_name(text: str) -> str:
    if text != "-" and Path(text).suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} is no video name; it must end in {', '.join(FORMATS)}")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _two_numbers(text: str) -> tuple[float, ...]:
    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers: first,last, like 0.2,0.8") from exc
    return first, last


def _three_numbers(text: str) -> tuple[float, ...]:
    try:
        pose, face, lips = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} must be three numbers: pose,face,lips, like 1,1,1.2") from exc
    return pose, face, lips


def _three_files(text: str) -> tuple[Path, ...]:
    files = tuple(Path(name) for name in text.split(","))
    if len(files) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} must be three files: FULL,FACE,LIP")
    return files


def _face_box(text: str) -> FaceBox:
    try:
        return parse_face_box(text)
    except PortraitError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


if __name__ == "__main__":
    raise SystemExit(main())
