"""How good are talking-head videos, and what did a shortcut cost?

::

    from emo_rt.evaluate import Against, evaluate

    report = evaluate(["talking.mp4"], Against(portrait="portrait.png"))
    print(report.markdown())

Measures are of four kinds: lips against the sound, motion, expression, pixels and identity; each report says how each
is computed, who uses it, and which network computes it. Values have 95 % intervals.
"""

from emo_rt.evaluate.assessment import evaluate
from emo_rt.evaluate.footage import Footage, of_frames, open_video
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS, Metric
from emo_rt.evaluate.options import Against
from emo_rt.evaluate.report import Report, Row

__all__ = [
    "METRICS",
    "Against",
    "Estimate",
    "Footage",
    "Metric",
    "Report",
    "Row",
    "evaluate",
    "of_frames",
    "open_video",
]
