"""``make card``: the checks of ``onnxruntime_on_card.py`` in an environment of their own, with onnxruntime-gpu.

That package and onnxruntime own the same folder, so the two cannot be in one environment. The environment is made once
(about 300 MB are downloaded) and used again until the versions asked for change.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.card.build import build, environment, missing

ROOT = Path(__file__).resolve().parents[2]
CHECKS = Path(__file__).with_name("onnxruntime_on_card.py")
FOLDER = ROOT / "build" / "card"
"""Where libraries and environment lie; ignored by git."""
PACKAGES = (
    "onnxruntime-gpu>=1.31,<2", "onnx>=1.23", "cuda-core>=1.2", "cuda-bindings>=12.9,<14", "numpy>=2.4",
    "av>=18,<19", "pillow>=13.0", "pytest>=9.2", "pytest-xdist>=3.8", "filelock>=4.2", "setuptools>=77",
)  # fmt: skip
"""What the checks need. NVIDIA's own libraries are not among them: the card takes their place."""


def main() -> int:
    """Exit code of the checks; 0, with a reason in words, where they cannot be made."""
    parser = argparse.ArgumentParser(description="Checks of the real onnxruntime-gpu on the simulated card.")
    parser.add_argument("--rounds", type=int, default=1000, help="rounds of the stress test (default: %(default)s)")
    parser.add_argument("--memory", metavar="BUNDLE", help="count the memory of a bundle's graphs instead")
    parser.add_argument("--launches", metavar="BUNDLE", help="count what one run of its graphs launches instead")
    parser.add_argument("--graph", action="append", help="with --launches: which graph (default: step)")
    parser.add_argument("--names", action="store_true", help="with --launches: each kernel by its name")
    parser.add_argument("pytest", nargs="*", help="further arguments of pytest, behind --")
    chosen = parser.parse_args()
    reason = missing() or _unsuitable()
    if reason is not None:
        return _skip(reason)
    try:
        python = _python()
    except (OSError, subprocess.CalledProcessError) as exc:
        return _skip(f"onnxruntime-gpu cannot be installed here: {exc}")
    count = _count(chosen)
    if count is not None:
        hollow = environment(build(FOLDER), CARD_HOLLOW="1")
        return subprocess.run([str(python), "-m", *count], cwd=ROOT, env=hollow, check=False).returncode
    card = environment(build(FOLDER), CARD_ROUNDS=str(chosen.rounds))
    command = [str(python), "-m", "pytest", "-q", "-n", "0", str(CHECKS), *chosen.pytest]
    return subprocess.run(command, cwd=ROOT, env=card, check=False).returncode


def _count(chosen: argparse.Namespace) -> list[str] | None:
    """Module and arguments of what is counted, if anything is."""
    if chosen.memory:
        return ["tests.card.memory", str(Path(chosen.memory).resolve())]
    if chosen.launches:
        names = ["--names"] * chosen.names
        graphs = [part for graph in chosen.graph or [] for part in ("--graph", graph)]
        return ["tests.card.launches", str(Path(chosen.launches).resolve()), *graphs, *names]
    return None


def _skip(reason: str) -> int:
    sys.stdout.write(f"make card: skipped, because {reason}\n")
    return 0


def _unsuitable() -> str | None:
    if os.uname().machine != "x86_64":
        return "the simulated card knows the names of onnxruntime-gpu's libraries on x86-64 only"
    return None


def _python() -> Path:
    """The environment's interpreter. Raises ``CalledProcessError`` where a package cannot be had."""
    key = hashlib.sha256(repr((PACKAGES, sys.version_info[:2])).encode()).hexdigest()[:12]
    folder = FOLDER / f"environment-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *PACKAGES], check=True)
        (folder / "complete").touch()
    # The checkout itself, in the layout that setup.py gives it; quick, and this may be another checkout.
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    subprocess.run(install, check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
