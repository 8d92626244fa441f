"""`emo-rt build`: TensorRT engines."""

from __future__ import annotations

import argparse

from emo_rt.cli.options import add_json, add_options, add_quiet, read_options

EXAMPLES = """examples:
  emo-rt build my_bundle
  emo-rt build my_bundle --package tensorrt_rtx --target sm86,sm89,sm120"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from emo_rt.engines.options import BuilderOptions, BuildRequest

    parser.epilog = EXAMPLES
    parser.add_argument("bundle", nargs="?", default="demo", help="bundle folder, or demo (default: %(default)s)")
    add_options(parser, BuildRequest)
    add_options(parser, BuilderOptions)
    add_json(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Build what is absent or stale, print a line per engine."""
    from emo_rt.engines import command
    from emo_rt.engines.options import BuilderOptions, BuildRequest

    build = read_options(args, BuildRequest, options=read_options(args, BuilderOptions))
    command.run(command.Request(args.bundle, build, as_json=args.json, quiet=args.quiet))
