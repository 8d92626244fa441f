"""Spans of jobs and live sessions for OpenTelemetry. Without a provider of its SDK in the process they cost nothing.

FastAPI makes those of requests and sockets. No span holds a prompt, a text, a picture or a sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from emo_rt.runtime.live.stats import LiveStats
from emo_rt.serve.records import FAILED, Job

NAME = "emo_rt.serve"
"""Of the tracer."""
JOB_ID = "emo_rt.job.id"
"""Attribute of a job's span, and of one of the request that has queued it: a job may outlive the process."""


def note_job_of_request(job_id: str) -> None:
    """The present request has queued this job."""
    trace.get_current_span().set_attribute(JOB_ID, job_id)


@contextmanager
def job_span(job: Job, device: str) -> Iterator[Span]:
    """Around one attempt to make a job; it begins a trace of its own."""
    attributes = {JOB_ID: job.id, "emo_rt.model": job.model, "emo_rt.device": device}
    tracer = trace.get_tracer(NAME)
    with tracer.start_as_current_span("job", attributes={**attributes, "emo_rt.job.attempt": job.attempts}) as span:
        yield span


@contextmanager
def part_span(name: str) -> Iterator[None]:
    """Around a part of the present span."""
    with trace.get_tracer(NAME).start_as_current_span(name):
        yield


def note_job_end(span: Span, status: str, stages: Mapping[str, float], reason: str = "") -> None:
    """How the job of a span stands now. ``stages``: seconds."""
    span.set_attribute("emo_rt.job.status", status)
    for stage, seconds in stages.items():
        span.set_attribute(f"emo_rt.stage.{stage}_s", round(seconds, 4))
    if status == FAILED:
        span.set_status(Status(StatusCode.ERROR, reason))


def begin_live_span() -> Span:
    """Of a live session, from before it is opened; it belongs to the present request."""
    return trace.get_tracer(NAME).start_span("live session")


def note_live_open(span: Span, model: str, device: str) -> None:
    """The first picture is there."""
    span.set_attributes({"emo_rt.model": model, "emo_rt.device": device})
    span.add_event("open")


def end_live_span(span: Span, stats: LiveStats | None, reason: BaseException | None = None) -> None:
    """The session is over. ``reason``: what has ended it, where that was an error. Only the first call counts."""
    if not span.is_recording():
        return
    if stats is not None:
        counts = {
            "pairs": stats.pairs,
            "late_frames": stats.late_frames,
            "repeated_frames": stats.repeated_frames,
            "steps_down": stats.steps_down,
            "dropped_s": round(stats.dropped_s, 3),
        }
        span.set_attributes({f"emo_rt.live.{name}": value for name, value in counts.items()})
        span.set_attribute("emo_rt.live.rung", stats.rung)
        for part, found in stats.latency.items():
            span.set_attribute(f"emo_rt.live.latency.{part}.p50_s", round(found.p50, 4))
            span.set_attribute(f"emo_rt.live.latency.{part}.p90_s", round(found.p90, 4))
    if reason is not None:
        span.set_status(Status(StatusCode.ERROR, str(reason)))
    span.end()
