"""What the command `emo-rt` takes: its subcommands and their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, NoReturn

from emo_rt.cli import argument_groups as groups
from emo_rt.cli import demo, evaluate
from emo_rt.cli.argument_groups import ANIMATE
from emo_rt.device.tensorrt.package import PACKAGES
from emo_rt.model.options import SOLVERS
from emo_rt.version import __version__

USAGE = 2
"""Exit code for a wrong command line."""
PRESETS = ("emo", "hallo", "demo", "demo256", "tiny")
"""Names of :func:`emo_rt.export.presets.preset`; that module comes with an extra."""
DTYPES: dict[str, Literal["float32", "float16"]] = {"fp32": "float32", "fp16": "float16"}
"""``--dtype`` → name in a bundle."""

OPENING = """Talking-head video from one portrait and a voice.

First try:  emo-rt demo
Then:       emo-rt animate portrait.jpg speech.wav -o talking.mp4
"""
ANIMATE_EXAMPLES = """examples:
  emo-rt animate portrait.jpg speech.wav -o talking.mp4
  emo-rt animate team.jpg song.mp3 -o song.mp4 --face-box 412,172,612,352 --speed 1.2 --seed 7
  emo-rt animate portrait.jpg speech.wav -o - | ffplay -"""

FACES_EXAMPLES = """examples:
  emo-rt faces team.jpg
  emo-rt faces team.jpg -o drawn.png
  emo-rt faces team.jpg --json | jq '.faces[0].blendshapes.jawOpen'"""

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


def make_parser() -> Parser:
    """The parser of the whole command line. ``command`` is the subcommand's name, or ``None``."""
    parser = Parser(prog="emo-rt", description=OPENING)
    parser.add_argument("--version", action="version", version=f"emo-rt {__version__}")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for add in (_add_demo, _add_animate, _add_faces, _add_export, _add_build, _add_info, _add_doctor, _add_bench, _add_evaluate):
        add(commands)
    return parser


def _command(commands: Any, name: str, about: str, **more: Any) -> Any:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", **more)
    parser.add_argument("--debug", action="store_true", help="log everything and show tracebacks (default: off)")
    return parser


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", "animate the portrait and the voice that come with emo_rt")
    parser.add_argument("-o", "--out", default="demo.mp4", type=groups.video_name, help="video (default: %(default)s)")
    groups.add_mode(parser, demo.DEMO_MODE)
    parser.add_argument("--seed", type=int, default=ANIMATE.seed, help="key of the noise (default: %(default)s)")
    groups.add_machine(parser)
    groups.add_overwrite(parser)
    groups.add_quiet(parser)


def _add_animate(commands: Any) -> None:
    parser = _command(commands, "animate", "animate a portrait with a voice or a song", epilog=ANIMATE_EXAMPLES)
    parser.add_argument("portrait", type=Path, help="picture of a person: PNG, JPEG, WebP, …")
    parser.add_argument("audio", type=Path, help="sound, or a video with sound: WAV, MP3, M4A, FLAC, MP4, …")
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        type=groups.video_name,
        help="video to write: .mp4, .m4v, .mov; - = fragmented MP4 to stdout",
    )
    output.add_argument(
        "--frames-dir", metavar="DIR", type=Path, help="also, or without -o only, write PNG frames into this new folder"
    )
    groups.add_overwrite(output)
    groups.add_motion(parser.add_argument_group("motion"))
    groups.add_sound(parser.add_argument_group("sound"))
    groups.add_face(parser.add_argument_group("picture"))
    groups.add_identity(parser.add_argument_group("face (Hallo models only)"))
    groups.add_encoding(parser.add_argument_group("encoding"))
    machine = parser.add_argument_group("model and machine")
    machine.add_argument("--bundle", metavar="DIR", default="demo", help="model folder, or demo (default: %(default)s)")
    groups.add_machine(machine)
    machine.add_argument(
        "--trace", metavar="OUT.json", type=Path, help="write which stage worked when, for Perfetto or chrome://tracing"
    )
    groups.add_quiet(parser)


def _add_faces(commands: Any) -> None:
    parser = _command(commands, "faces", "find faces, with landmarks, expression and head pose", epilog=FACES_EXAMPLES)
    parser.add_argument("picture", type=Path, help="PNG, JPEG, WebP, …")
    groups.add_json(parser)
    parser.add_argument(
        "-o", "--out", metavar="DRAWN", type=groups.picture_name,
        help="write the picture with all faces drawn and numbered: .png, .jpg, .webp (default: don't)",
    )  # fmt: skip
    groups.add_overwrite(parser, "picture")


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", "write a model as a bundle that emo_rt runs (needs emo_rt[export])")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="bundle folder; new or empty")
    weights = parser.add_argument_group("model")
    weights.add_argument(
        "--upgrade", metavar="BUNDLE", type=Path,
        help="convert a bundle of an older emo_rt instead; its weights keep every bit (needs no emo_rt[export])",
    )  # fmt: skip
    weights.add_argument(
        "--preset", choices=PRESETS,
        help="emo (paper, full size), hallo (layout of that checkpoint), demo (small), demo256 (the same at "
        "256×256), tiny (tests); with --random-weights",
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
    groups.add_quiet(parser)


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
        commands, "build", "build TensorRT engines of a bundle, those that are absent or stale",
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
    parser.add_argument("--graphs", metavar="NAME,…", type=groups.names, help="only these graphs (default: all)")
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
    groups.add_json(parser)
    groups.add_quiet(parser)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "show what is in a bundle and verify its hashes")
    parser.add_argument("bundle", nargs="?", default="demo", help="bundle folder, or demo (default: %(default)s)")
    groups.add_json(parser)


def _add_doctor(commands: Any) -> None:
    about = "show what this machine can do, and what to install for more"
    groups.add_json(_command(commands, "doctor", about, epilog="exit code: 0 if videos can be made here, else 1"))


def _add_bench(commands: Any) -> None:
    parser = _command(commands, "bench", "measure how fast a model is on this machine", epilog=BENCH_EXAMPLES)
    parser.add_argument("--bundle", metavar="DIR", default="demo", help="model folder, or demo (default: %(default)s)")
    parser.add_argument(
        "--only", metavar="NAME,…", type=groups.names, default=(),
        help="some of latency, stream, throughput, avatars, stages, overhead, cold_start (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--against", choices=("torch",), help="also run the plain torch formulation (needs emo_rt[export]; slow)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--steps", type=int, default=20, help="solver steps per clip (default: %(default)s)")
    how.add_argument("--solver", choices=SOLVERS, default="ddim", help="solver (default: %(default)s)")
    how.add_argument("--guidance", type=float, help="guidance scale, 0 … 50; 1 = none (default: the model's own)")
    how.add_argument("--rounds", type=int, default=5, help="repetitions of what is short (default: %(default)s)")
    how.add_argument("--clips", type=int, default=6, help="clips of the long runs (default: %(default)s)")
    how.add_argument("--fps", type=float, help="frame rate at which a frame is late (default: the model's)")
    how.add_argument(
        "--quick", action="store_true", help="few steps and rounds: only to see that it runs (default: off)"
    )
    groups.add_machine(how)
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", type=Path, help="result with a stable schema")
    output.add_argument("--markdown", metavar="FILE", type=Path, help="the tables as Markdown")
    output.add_argument("--chart", metavar="FILE", type=Path, help="where the time goes: .html, .svg or .png")
    output.add_argument("--compare", metavar="OLD.json", type=Path, help="show ratios to an earlier --json result")
    groups.add_quiet(output)


def _add_evaluate(commands: Any) -> None:
    evaluate.add_arguments(_command(commands, "evaluate", evaluate.ABOUT))
