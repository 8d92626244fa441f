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

WEIGHTS = ("upgrade", "preset", "random_weights", "seed")
FORM = ("dtype", "no_guidance", "both", "half_storage", "deep_cache", "keep_fp32", "check")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from emo_rt.export.request import SOURCES, EchoMimicRequest, HalloRequest, Request

    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="bundle folder; new or empty")
    weights = parser.add_argument_group("model")
    add_options(weights, Request, only=WEIGHTS)
    published = parser.add_argument_group("published weights")
    published.add_argument(
        "--from",
        dest="source",
        choices=tuple(SOURCES),
        help="import a checkpoint of Hallo or Hallo2, or of EchoMimic v1",
    )
    add_options(published, HalloRequest)
    add_options(published, EchoMimicRequest, only=("accelerated", "with_accelerated"))
    form = parser.add_argument_group("form")
    add_options(form, Request, only=FORM)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Write the bundle, print the receipt."""
    from emo_rt.export.request import SOURCES, Request

    if args.upgrade is None:
        _check_source(args, SOURCES)
    source = {args.source: read_options(args, SOURCES[args.source])} if args.source else {}
    request = read_options(args, Request, **source)
    if request.upgrade is not None:
        _upgrade(request.upgrade, request.out, request.quiet)
        return
    try:
        from emo_rt.export import command
    except ModuleNotFoundError as exc:
        extras = "cpu,export" if exc.name == "onnxruntime" else "export"
        raise MissingDependencyError(f"exporting needs {exc.name}; pip install 'emo_rt[{extras}]'") from exc
    command.run(request)


def _upgrade(old: Path, out: Path, quiet: bool) -> None:
    bundle = upgrade_bundle(old, out)
    if not quiet:
        facts = f"schema {bundle.schema}, {terminal.size(bundle.size_bytes)} in {len(bundle.files)} files"
        terminal.say(f"{bundle.path}: {facts}; {old} is as it was")


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
