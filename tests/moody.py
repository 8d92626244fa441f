"""A really installed backend that fails as it is told, in whatever process."""

from __future__ import annotations

from pathlib import Path

MOODY = """
from pathlib import Path

from emo_rt import errors
from emo_rt.device.onnxruntime_cpu import OrtBackend, OrtBoundGraph, OrtGraph

NAME, DEVICE, SCRIPT = "moody", "cpu", Path({script!r})


class Moody(OrtBackend):
    name = NAME

    def _open(self, bundle, graph):
        opened = super()._open(bundle, graph)
        opened.__class__ = MoodyGraph if bundle.graphs[graph].role == "step" else OrtGraph
        return opened


class MoodyGraph(OrtGraph):
    def bind(self, buffers):
        return MoodyBoundGraph(self, buffers)


class MoodyBoundGraph(OrtBoundGraph):
    def run(self):
        todo = SCRIPT.read_text().split()
        SCRIPT.write_text(" ".join(todo[1:]))
        if todo and todo[0] != "fine":
            raise getattr(errors, todo[0])("as it is told")
        super().run()


def auto(bundle):
    return "only by name"


def open(threads):
    return Moody(threads)
"""


def install(site: Path, script: Path) -> None:
    """Into a folder of the module path. ``script``: what happens at each solver step, ``fine`` or an error's name."""
    about = site / "moody-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[emo_rt.backends]\nmoody = moody\n")
    (site / "moody.py").write_text(MOODY.format(script=str(script)))
    script.write_text("")
