"""A real cluster on this machine: each node is a set of processes with one CPU and one GPU that is only declared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import inputs, manifest
from tests.moody import install

__all__ = ["inputs", "manifest"]


NODES = 3
STORE_BYTES = 100_000_000
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": STORE_BYTES}


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the backend ``moody`` does at each solver step of any process of the cluster."""
    folder = tmp_path_factory.mktemp("moody")
    install(folder / "site", folder / "script")
    return folder / "script"


@pytest.fixture(scope="session")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """What processes inherit that are started later."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def store(environment: pytest.MonkeyPatch) -> Iterator[str | None]:
    """The URL of a server that speaks as S3, if its packages are there; every process finds it by its environment."""
    try:
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.setenv(name, "testing")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def cluster(script: Path, store: str | None, environment: pytest.MonkeyPatch) -> Iterator[Any]:
    """``NODES`` nodes beside the head, which has no CPU: drivers and ledgers live there."""
    ray = pytest.importorskip("ray", reason="Ray is in an environment of its own: make ray")
    from ray.cluster_utils import Cluster

    environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray will do by itself; it warns otherwise
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    environment.setenv("PYTHONPATH", str(script.parent / "site"))
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NODES):
        found.add_node(**NODE)
    try:
        ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
        yield found
    finally:
        ray.shutdown()
        found.shutdown()
