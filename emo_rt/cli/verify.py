"""`emo-rt verify`: which marks a video has."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emo_rt.cli import terminal
from emo_rt.cli.options import add_json
from emo_rt.media.marking.provenance import ProvenanceReading
from emo_rt.media.marking.reading import WatermarkReading, verify

EXAMPLES = """examples:
  emo-rt verify talking.mp4
  emo-rt verify upload.mp4 --key "a secret of ours" --json

A mark labels the video as made by a machine; whoever can write the file can
put one in. No mark says nothing: marks can be removed, and other programs
have others."""
SCHEMA = 1
"""Version of the JSON report; raised when a key changes its meaning or goes away."""
STATES = {
    "absent": "none",
    "unsupported": "none; C2PA has no place for it in this container",
    "valid": "valid: not changed since it was signed; whether the signer is to be trusted is yours to judge",
    "trusted": "valid, and the signer is trusted",
    "invalid": "invalid: the file was changed, cut off or wrongly signed",
    "unchecked": "not checked; pip install 'emo_rt[provenance]'",
}


def add_arguments(parser: Any) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument("file", metavar="FILE", type=Path, help="video: MP4, MOV, WebM, …")
    parser.add_argument("--key", metavar="TEXT", help="key of the watermark (default: the one that everybody has)")
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Tell what was found; exit code 0 with or without marks."""
    found = verify(args.file, key=args.key)
    if args.json:
        report = {"schema": SCHEMA, "is_generated": found.is_generated, **asdict(found)}
        terminal.say(json.dumps(report, indent=2, ensure_ascii=False))
        return
    rows = [
        ("marked", "as AI-generated" if found.is_generated else "no mark was found, which says nothing"),
        ("metadata", found.metadata or "none"),
        ("C2PA", _c2pa(found.c2pa)),
        ("watermark", _watermark(found.watermark)),
    ]
    terminal.say(terminal.pairs(rows))


def _c2pa(reading: ProvenanceReading) -> str:
    by = f"; signed by {reading.issuer}" if reading.issuer else ""
    made = f"; made with {reading.generator}" if reading.generator else ""
    problems = f"; {', '.join(reading.problems)}" if reading.problems else ""
    return f"{STATES.get(reading.state, reading.state)}{by}{made}{problems}"


def _watermark(reading: WatermarkReading) -> str:
    score = f"score {reading.score:.1f}, {reading.threshold:.1f} is needed; {reading.frames} frames"
    if not reading.found:
        return f"not found ({score})"
    payload = "payload not readable" if reading.payload is None else f"payload {reading.payload}"
    return f"found, {payload} ({score})"
