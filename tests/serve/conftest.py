"""A server in this process, and what tests of it send."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from emo_rt import Animator
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.inputs import URL

MakeService = Callable[..., Service]
OURS = "emo_rt serve"
"""How the names of a server's threads begin."""
PATIENCE_S = 60
"""Seconds after which a test that waits for something gives up, on the slowest machine."""


@pytest.fixture(scope="module")
def service(tiny_animator: Animator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that runs; for tests that leave nothing behind."""
    options = ServeOptions(data=str(tmp_path_factory.mktemp("data")), limits=Limits(min_free_mb=0))
    with Service(options, {"tiny": tiny_animator}) as found:
        yield found
    join_threads()
    assert threads() == []


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    """Talks to it, without a network."""
    with TestClient(make_app(service), base_url=URL, raise_server_exceptions=False) as found:
        wait_until(lambda: service.is_warm)
        yield found


@pytest.fixture
def make_service(tiny_animator: Animator, tmp_path: Path) -> Iterator[MakeService]:
    """``make_service(max_queue=1)``: a service with limits of its own, in one folder; it is not started."""
    made: list[Service] = []
    before = threads()

    def make(**limits: Any) -> Service:
        options = ServeOptions(data=str(tmp_path / "data"), limits=Limits(**{"min_free_mb": 0, **limits}))
        made.append(Service(options, {"tiny": tiny_animator}))
        return made[-1]

    yield make
    for one in made:
        one.close()
    join_threads(before)
    assert threads() == before


@pytest.fixture(autouse=True)
def left_clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the shared service ends with no job that runs and no upload that lies about."""
    yield
    if "service" in request.fixturenames:
        shared: Service = request.getfixturevalue("service")
        for job in shared.store.jobs("", after=None, limit=1000, newest_first=True) or []:
            shared.delete(job)
        wait_until(lambda: shared.runner.is_idle and not shared.live)
        wait_until(lambda: not any(one.name.startswith("emo_rt-") for one in threading.enumerate()))
        assert list((shared.store.folder / "incoming").iterdir()) == []
        assert list((shared.store.folder / "jobs").iterdir()) == []


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait for something that happens in another thread or process."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def join_threads(but: Collection[str] = ()) -> None:
    """Wait for the threads of servers that are on their way out, all but those of these names."""
    end = time.monotonic() + PATIENCE_S
    for one in threading.enumerate():
        if one.name.startswith(OURS) and one.name not in but:
            one.join(max(0.0, end - time.monotonic()))


def threads() -> list[str]:
    """Of servers in this process."""
    return sorted(one.name for one in threading.enumerate() if one.name.startswith(OURS))
