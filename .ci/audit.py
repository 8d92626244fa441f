"""Look a list of packages up for known holes with pip-audit, and say of each that has some, or could not be looked up.

    python .ci/audit.py build/audit.lock

``pip-audit --strict`` ends at the first package that it cannot look up, and names only that one. It asks PyPI's JSON
interface for single versions, which mirrors of the index mostly lack: then no package can be looked up, and the message
says so. Exit code 0: all were looked up, and none has a known hole. Nothing else is a pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Package = dict[str, Any]


def audited(lock: Path) -> list[Package]:
    """pip-audit's finding of each package of a list like that of ``pip freeze``. Raises :class:`SystemExit`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "audit.json")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        done = subprocess.run(
            [*command, "--requirement", str(lock), "--format", "json", "--output", str(report)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if not report.exists():
            raise SystemExit(f"pip-audit has failed (exit code {done.returncode}):\n{done.stderr}")
        found: list[Package] = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
        return found


def verdict(packages: Sequence[Package]) -> tuple[int, str]:
    """Exit code, and what to say."""
    unknown = [package for package in packages if "skip_reason" in package]
    holes = [(package, hole) for package in packages for hole in package.get("vulns", [])]
    lines = []
    for package, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "none yet"
        lines.append(f"{package['name']} {package['version']}: {hole['id']}, fixed in {fixed}")
    if len(unknown) == len(packages):
        why = packages[0]["skip_reason"] if packages else "there is none"
        more = "this index may lack PyPI's JSON interface for single versions, as mirrors do; run it where PyPI answers"
        lines.append(f"none of {len(packages)} packages could be looked up ({why}): {more}")
    elif unknown:
        lines.append("could not be looked up, and may have holes:")
        lines += [f"  {package['name']}: {package['skip_reason']}" for package in unknown]
    known = len(packages) - len(unknown)
    lines.append(f"{known} of {len(packages)} packages were looked up, {len(holes)} known holes")
    return int(bool(holes or unknown or not packages)), "\n".join(lines)


if __name__ == "__main__":
    code, told = verdict(audited(Path(sys.argv[1])))
    sys.stdout.write(told + "\n")
    sys.exit(code)
