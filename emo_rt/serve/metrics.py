"""``/metrics`` for Prometheus."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from emo_rt.runtime.live.stats import LiveStats

TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of the answer."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Upper ends of the histograms' buckets."""
Gauges = Callable[[], Mapping[str, Mapping[str, float]]]
"""What is measured when somebody asks: metric → label's value → number."""


class Metrics:
    """Counts and times of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("emo_rt_http_requests", "Requests", ("method", "route", "status"), registry=registry)
        self._request_seconds = Histogram(
            "emo_rt_http_request_seconds", "Time of a request", ("route",), buckets=SECONDS, registry=registry
        )
        self._jobs = Counter("emo_rt_jobs", "Jobs that ended", ("status",), registry=registry)
        self._stages = Histogram(
            "emo_rt_stage_seconds", "Time of a stage in a job", ("stage",), buckets=SECONDS, registry=registry
        )
        self._ended_late = 0
        self._ended_repeated = 0
        self._lock = threading.Lock()

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(method, route, str(status)).inc()
        if method != "WS":
            self._request_seconds.labels(route).observe(seconds)

    def note_job(self, status: str, stages: Mapping[str, float]) -> None:
        """A job is over. ``stages``: seconds."""
        self._jobs.labels(status).inc()
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def note_live_end(self, stats: LiveStats) -> None:
        """A live session is over."""
        with self._lock:
            self._ended_late += stats.late_frames
            self._ended_repeated += stats.repeated_frames

    def watch(self, gauges: Gauges, live: Callable[[], list[LiveStats]]) -> None:
        """Where the rest comes from, when somebody asks."""
        self.registry.register(_Present(gauges, live, self._ended))

    def _ended(self) -> tuple[int, int]:
        with self._lock:
            return self._ended_late, self._ended_repeated

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)


class _Present(Collector):
    """What is true now."""

    def __init__(
        self, gauges: Gauges, live: Callable[[], list[LiveStats]], ended: Callable[[], tuple[int, int]]
    ) -> None:
        self._gauges, self._live, self._ended = gauges, live, ended

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """As the registry wants it."""
        for name, values in self._gauges().items():
            metric, _, label = name.partition(":")
            family = GaugeMetricFamily(f"emo_rt_{metric}", metric.replace("_", " "), labels=[label] if label else [])
            for key, number in values.items():
                family.add_metric([key] if label else [], number)
            yield family
        yield from self._collect_live(self._live())

    def _collect_live(self, sessions: list[LiveStats]) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        rungs = GaugeMetricFamily("emo_rt_live_rung_sessions", "Live sessions by preset", labels=["rung"])
        for rung, count in Tally(stats.rung for stats in sessions).items():
            rungs.add_metric([rung], count)
        yield rungs
        worst: dict[tuple[str, str], float] = {}
        for stats in sessions:
            for part, found in stats.latency.items():
                for quantile, seconds in (("0.5", found.p50), ("0.9", found.p90), ("0.99", found.p99)):
                    worst[part, quantile] = max(seconds, worst.get((part, quantile), 0.0))
        latency = GaugeMetricFamily(
            "emo_rt_live_latency_seconds", "Sound in to frame out, of the slowest session", labels=["part", "quantile"]
        )
        for labels, seconds in worst.items():
            latency.add_metric(list(labels), seconds)
        yield latency
        late, repeated = self._ended()
        late += sum(stats.late_frames for stats in sessions)
        repeated += sum(stats.repeated_frames for stats in sessions)
        yield CounterMetricFamily("emo_rt_live_late_frames", "Frames that were late", value=late)
        yield CounterMetricFamily("emo_rt_live_repeated_frames", "Frames that were shown again", value=repeated)
