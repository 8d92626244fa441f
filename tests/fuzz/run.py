"""Fuzz one loader with atheris (libFuzzer): ``python -m tests.fuzz.run audio 60``, or ``all``, as ``make fuzz`` does.

Needs ``atheris``, which CI does not have: ``make fuzz`` makes an environment for it. Only Python is instrumented, so
FFmpeg's and Pillow's native code is reached by chance and by the seeds. A finding ends the run with exit code 77, and
its bytes are kept in ``build/fuzz/findings``; give that file in place of the seconds to try it again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.loaders import LOADERS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
SLOWEST_S, MOST_MB = 20, 2048
"""An input that takes longer, or more memory, is a finding."""
LONGEST = 65_536
"""Bytes of an input."""


def main() -> int:
    """Fuzz, or try a finding again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loader", choices=["all", *LOADERS])
    parser.add_argument("what", help="seconds, or a file with a finding")
    args = parser.parse_args()
    if not args.what.isdigit():
        accepted = LOADERS[args.loader](Path(args.what).read_bytes())
        sys.stdout.write(f"{args.loader}: {'accepted' if accepted else 'refused'}\n")
        return 0
    names = LOADERS if args.loader == "all" else [args.loader]
    return next((code for name in names if (code := _fuzzed(name, int(args.what)))), 0)


def _fuzzed(loader: str, seconds: int) -> int:
    """For some seconds, in a child: libFuzzer ends its process, and a crash does."""
    corpus, findings = BUILD / "corpus" / loader, BUILD / "findings" / loader
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="emo_rt-fuzz-")
    try:
        return _child(loader, seconds, corpus, findings, {**os.environ, "TMPDIR": scratch})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _child(loader: str, seconds: int, corpus: Path, findings: Path, env: dict[str, str]) -> int:
    limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}", f"-max_len={LONGEST}"]
    places = ["-print_final_stats=1", f"-artifact_prefix={findings}/", str(corpus)]
    command = [sys.executable, "-m", "tests.fuzz.run_child", loader, *limits, *places]
    done = subprocess.run(command, check=False, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    sys.stdout.write(f"{loader}: {runs[1] if runs else '?'} inputs, exit code {done.returncode}\n")
    sys.stdout.flush()
    if done.returncode != 0:
        sys.stdout.write(done.stderr[-8_000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
