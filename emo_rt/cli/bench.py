"""`emo-rt bench`: how fast a model is here."""

from __future__ import annotations

import argparse

from emo_rt.cli.options import add_options, add_quiet, read_options

EXAMPLES = """examples:
  emo-rt bench --quick
  emo-rt bench --json before.json --chart stages.html
  emo-rt bench --only latency,overhead --compare before.json
  emo-rt bench --against torch"""
OUTPUT = ("json", "markdown", "chart", "compare")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from emo_rt.benchmarks.bench import Request
    from emo_rt.benchmarks.subject import Setting

    parser.epilog = EXAMPLES
    add_options(parser, Request, leave_out=OUTPUT)
    add_options(parser.add_argument_group("how"), Setting)
    output = parser.add_argument_group("output")
    add_options(output, Request, only=OUTPUT)
    add_quiet(output)


def run(args: argparse.Namespace) -> None:
    """Measure, print the tables, write the files."""
    from emo_rt.benchmarks import bench
    from emo_rt.benchmarks.subject import Setting

    bench.run(read_options(args, bench.Request, setting=read_options(args, Setting), quiet=args.quiet))
