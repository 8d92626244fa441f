"""Weight files are named by their content, so that equal ones are one file, in a bundle and between bundles."""

from __future__ import annotations

from pathlib import Path

from emo_rt.files import put_in_place, sha256_of, whole_file
from emo_rt.model.onnx_files import renamed_locations

WEIGHTS = ".bin"
"""End of the name of a weight file."""
DIGITS = 16
"""Of the hash, in the name: 64 bits are enough to tell files apart; the manifest has the whole hash."""


def weight_file_name(sha256: str) -> str:
    """Name of the weight file with this hash."""
    return f"{sha256[:DIGITS]}{WEIGHTS}"


def name_by_content(folder: Path) -> None:
    """Give every weight file in ``folder`` the name of its content, and tell the ONNX files there.

    All lie in one folder, because ONNX Runtime refuses external data outside the folder of the ONNX file. Raises
    :class:`OSError`, and :class:`BundleIntegrityError` for an ONNX file that cannot be read.
    """
    files = sorted(folder.glob(f"*{WEIGHTS}"))
    names = {path.name: weight_file_name(sha256_of(path)) for path in files}
    for graph in sorted(folder.glob("*.onnx")):
        content = renamed_locations(graph, names)
        with whole_file(graph) as scratch:
            scratch.write_bytes(content)
    for path in files:
        put_in_place(path, folder / names[path.name])
