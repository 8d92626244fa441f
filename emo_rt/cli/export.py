"""`emo-rt export`: from weights to a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from emo_rt.cli import terminal
from emo_rt.cli.options import add_options, add_quiet, read_options
from emo_rt.errors import ConfigError, MissingDependencyError
from emo_rt.model.upgrade import upgrade_bundle
from emo_rt.schema.option import options_of

DTYPES = {"fp32": "float32", "fp16": "float16"}
"""``--dtype`` → name in a bundle."""
WEIGHTS = ("preset", "random_weights", "seed")
FORM = ("half_storage", "deep_cache", "keep_fp32", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from emo_rt.export.request import SOURCES, EchoMimicRequest, HalloRequest, Request

    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="bundle folder; new or empty")
    weights = parser.add_argument_group("model")
    weights.add_argument(
        "--upgrade", metavar="BUNDLE", type=Path,
        help="convert a bundle of an older emo_rt instead; its weights keep every bit (needs no emo_rt[export])",
    )  # fmt: skip
    add_options(weights, Request, only=WEIGHTS)
    published = parser.add_argument_group("published weights")
    published.add_argument(
        "--from",
        dest="source",
        choices=tuple(SOURCES),
        help="import a checkpoint of Hallo or Hallo2, or of EchoMimic v1",
    )
    add_options(published, HalloRequest)
    add_options(published, EchoMimicRequest, only=("accelerated",))
    form = parser.add_argument_group("form")
    form.add_argument(
        "--dtype", choices=DTYPES, default="fp32",
        help="arithmetic: fp32 for CPUs, fp16 for GPUs (default: %(default)s)",
    )  # fmt: skip
    steps = form.add_mutually_exclusive_group()
    steps.add_argument(
        "--no-guidance", action="store_true", help="only the step graph without guidance (default: only with)"
    )
    steps.add_argument("--both", action="store_true", help="both step graphs (default: only with guidance)")
    add_options(form, Request, only=FORM)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Write the bundle, print the receipt."""
    from emo_rt.export.request import SOURCES, Request

    if args.half_storage and args.dtype == "fp16":
        raise ConfigError("--half-storage is for --dtype fp32; with fp16 the weights are halves already")
    if args.upgrade is not None:
        _upgrade(args)
        return
    _check_source(args, SOURCES)
    request = read_options(
        args,
        Request,
        **({args.source: read_options(args, SOURCES[args.source])} if args.source else {}),
        dtype=DTYPES[args.dtype],
        guidance=(True, False) if args.both else (not (args.no_guidance or args.accelerated),),
    )
    try:
        from emo_rt.export import command
    except ModuleNotFoundError as exc:
        extras = "cpu,export" if exc.name == "onnxruntime" else "export"
        raise MissingDependencyError(f"exporting needs {exc.name}; pip install 'emo_rt[{extras}]'") from exc
    command.run(request)


def _upgrade(args: argparse.Namespace) -> None:
    if args.source or args.preset or args.random_weights:
        raise ConfigError("--upgrade converts a bundle as it is; leave out --from, --preset and --random-weights")
    bundle = upgrade_bundle(args.upgrade, args.out)
    if not args.quiet:
        facts = f"schema {bundle.schema}, {terminal.size(bundle.size_bytes)} in {len(bundle.files)} files"
        terminal.say(f"{bundle.path}: {facts}; {args.upgrade} is as it was")


def _check_source(args: argparse.Namespace, sources: Mapping[str, type]) -> None:
    """Exactly one source of weights, and only the options that belong to it."""
    names = {source: {option.name for option in options_of(request)} for source, request in sources.items()}
    given = [name for name in dict.fromkeys(chain(*names.values())) if getattr(args, name)]
    for name in given:
        owners = [source for source in names if name in names[source]]
        if args.source not in owners:
            raise ConfigError(f"--{name.replace('_', '-')} belongs to --from; pass --from {' or '.join(owners)}")
    if args.source is None and args.preset is None:
        raise ConfigError("say what to export: --from hallo --checkpoint PATH, or --preset NAME --random-weights")
    if args.source is not None and (args.preset is not None or args.random_weights):
        raise ConfigError("--from brings its own weights; leave out --preset and --random-weights")
    if args.source is not None and args.checkpoint is None:
        raise ConfigError("--from needs --checkpoint PATH: the checkpoint's folder, or net.pth")
