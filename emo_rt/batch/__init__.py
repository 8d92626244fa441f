"""Many videos from a list: rows that resume, fail alone and are written whole. The command is ``emo-rt batch``.

::

    from emo_rt.batch import Model, run_batch

    summary = run_batch("rows.jsonl", "videos", model=Model("demo"), workers=2)

Call it under ``if __name__ == "__main__":``, as all that starts processes.
"""

from emo_rt.batch.ledger import Summary
from emo_rt.batch.manifest import Row, read_manifest
from emo_rt.batch.ray_runner import Cluster, run_batch_on_ray
from emo_rt.batch.ray_share import Share
from emo_rt.batch.result import RowResult
from emo_rt.batch.runner import Progress, run_batch
from emo_rt.batch.task import Model

__all__ = [
    "Cluster",
    "Model",
    "Progress",
    "Row",
    "RowResult",
    "Share",
    "Summary",
    "read_manifest",
    "run_batch",
    "run_batch_on_ray",
]
