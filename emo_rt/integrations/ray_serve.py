"""The server of ``emo-rt serve`` as replicas on a Ray cluster: jobs and live sessions behind one address.

::

    from emo_rt.integrations.ray_serve import ServeOnRay, deploy

    deploy(ServeOnRay(data="/shared/emo_rt", host="talk.example.com", sessions=4, most_replicas=8))

Two Serve applications run the same ASGI application. ``emo_rt-live`` (``/v1/realtime``) has an ongoing request per live
session and grows with them; ``emo_rt`` (everything else) makes the jobs. Jobs, avatars and keys are in one folder that
all machines see, so any replica answers for any job. Keys are those of ``emo-rt serve --new-key NAME --data FOLDER``;
without one, only loopback is served. Set ``RAY_AUTH_MODE=token`` for the cluster itself.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from emo_rt.animator import Animator
from emo_rt.checks import check
from emo_rt.errors import DeviceLostError, MissingDependencyError
from emo_rt.integrations.ray_bundles import Bundles
from emo_rt.integrations.ray_keeper import Keeper, SharedStore
from emo_rt.serve.app import make_app
from emo_rt.serve.keys import keys_for
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions

JOBS, LIVE = "emo_rt", "emo_rt-live"
"""Names of the two applications."""
LIVE_PREFIX = "/v1/realtime"
REQUESTS = 100
"""Requests at a time of a replica that makes jobs: they ask and upload, and are short."""
BEAT_S = 2.0
"""How often a replica is asked for its health, and says to the keeper that it lives."""
LOOK_BACK_S = 15.0
"""Over which Serve averages how many sessions there are. Its figures come every 10 s: less is refused."""
BUSY = 0.75
"""Share of the sessions of a replica at which another one is started."""


@dataclass(frozen=True)
class ServeOnRay:
    """What is served, and by how many."""

    data: str
    """Folder for jobs, avatars and keys, at the same path on all machines."""
    bundles: Mapping[str, str] = field(default_factory=lambda: {"demo": "demo"})
    """Bundle folders by the name of the model; the first is taken where a caller names none."""
    host: str = "127.0.0.1"
    """Name or address by which callers reach the cluster. Others than loopback need a key."""
    sessions: int = 4
    """Live sessions that one replica holds in real time; ``emo-rt bench --live`` measures it."""
    fewest_replicas: int = 1
    """Replicas for live sessions that are always there."""
    most_replicas: int = 1
    """Most replicas for live sessions."""
    most_waiting: int = 8
    """Live sessions that may wait for a place while replicas start; more are refused with 503."""
    job_replicas: int = 1
    """Replicas that make jobs; 0 = none, and only live sessions are served."""
    bundles_loaded: int = 2
    """Bundles that a replica keeps loaded: the first, and those that were used last."""
    cpus: float = 1.0
    """CPU cores of a replica."""
    gpus: float = 0.0
    """GPUs of a replica, or a part of one. Ray only counts them: memory must really suffice."""
    device: str = "auto"
    """As of :meth:`emo_rt.Animator.load`, like the next two."""
    backend: str = "fastest"
    """Runtime."""
    threads: int | None = None
    """CPU threads per graph; ``None`` = ``cpus``."""
    upscale_delay_s: float = 5.0
    """How long sessions must be more before another replica is started."""
    downscale_delay_s: float = 300.0
    """How long they must be fewer before one ends."""
    limits: Limits = field(default_factory=Limits)
    """What callers may take. ``max_sessions`` is ``sessions`` in each replica."""

    def __post_init__(self) -> None:
        check(len(self.bundles) > 0, "bundles", self.bundles, "one or more")
        for name in ("sessions", "fewest_replicas", "bundles_loaded"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        is_fewer = self.most_replicas < self.fewest_replicas
        check(not is_fewer, "most_replicas", self.most_replicas, f"fewest_replicas, {self.fewest_replicas}, or more")
        for name in ("most_waiting", "job_replicas"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def deploy(options: ServeOnRay) -> dict[str, Any]:
    """Start both applications on the cluster that this process is connected to, or replace them. Their handles by name.

    Raises :class:`ConfigError` where ``host`` needs a key, :class:`MissingDependencyError`.
    """
    serve = require_serve()
    Path(options.data).mkdir(parents=True, exist_ok=True)
    keys_for(_server_options(options))
    prefixes = {LIVE: LIVE_PREFIX} | ({JOBS: "/"} if options.job_replicas else {})
    return {name: serve.run(application(options, name), name=name, route_prefix=at) for name, at in prefixes.items()}


def application(options: ServeOnRay, name: str) -> Any:
    """One of the two applications, :data:`LIVE` or :data:`JOBS`, bound for ``serve.run`` or a config file."""
    serve, is_live = require_serve(), name == LIVE

    def build() -> ASGIApp:
        return _Replica.start(options, makes_jobs=not is_live).app

    @serve.deployment(  # type: ignore[untyped-decorator,unused-ignore]
        name="live" if is_live else "jobs",
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        health_check_period_s=BEAT_S,
        **(_live_scale(options) if is_live else _job_scale(options)),
    )
    @serve.ingress(build)  # type: ignore[untyped-decorator,unused-ignore]
    class EmoRt:
        """A replica: the application lives in its process."""

        def check_health(self) -> None:
            """Raises where only a new process helps: Serve then starts one."""
            _Replica.of_this_process().check_health()

        def __del__(self) -> None:
            _Replica.close_here()

    deployment: Any = EmoRt  # the decorators made one of it
    return deployment.bind()


def _job_scale(options: ServeOnRay) -> dict[str, Any]:
    return {"num_replicas": options.job_replicas, "max_ongoing_requests": REQUESTS}


def _live_scale(options: ServeOnRay) -> dict[str, Any]:
    return {
        "max_ongoing_requests": options.sessions,
        "max_queued_requests": options.most_waiting,
        "autoscaling_config": {
            "min_replicas": options.fewest_replicas,
            "max_replicas": options.most_replicas,
            "target_ongoing_requests": BUSY * options.sessions,
            "upscale_delay_s": options.upscale_delay_s,
            "look_back_period_s": LOOK_BACK_S,
            "downscale_delay_s": options.downscale_delay_s,
        },
    }


def _server_options(options: ServeOnRay) -> ServeOptions:
    limits = replace(options.limits, max_sessions=options.sessions)
    return ServeOptions(host=options.host, data=options.data, allow_host=_name_of(options.host), limits=limits)


def _name_of(host: str) -> str | None:
    """A host that is no address: the guard lets addresses pass by themselves."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None if host == "localhost" else host
    return None


def require_serve() -> Any:
    """The package. Raises :class:`MissingDependencyError`."""
    try:
        return importlib.import_module("ray.serve")
    except ImportError as exc:
        raise MissingDependencyError("Ray Serve is missing; install it with: pip install 'emo_rt[ray]'") from exc


class _Replica:
    """What one replica's process has: models, service, and its voice to the keeper."""

    _here: _Replica | None = None

    def __init__(self, options: ServeOnRay, *, makes_jobs: bool) -> None:
        self._ray = importlib.import_module("ray")
        self._name = self._ray.get_runtime_context().get_actor_id()
        self._keeper = _keeper(self._ray, options)
        threads = options.threads or max(1, math.ceil(options.cpus))

        def load(path: str) -> Animator:
            return Animator.load(path, device=options.device, backend=options.backend, threads=threads)

        models = Bundles(options.bundles, options.bundles_loaded, load)
        store = SharedStore(Path(options.data).absolute(), self._ask)
        self.service = Service(_server_options(options), models, store=store, makes_jobs=makes_jobs)
        self.app: ASGIApp = _WholePath(make_app(self.service, _Routed, has_webrtc=False))

    @classmethod
    def start(cls, options: ServeOnRay, *, makes_jobs: bool) -> _Replica:
        """The replica of this process."""
        cls._here = cls(options, makes_jobs=makes_jobs)
        return cls._here

    @classmethod
    def of_this_process(cls) -> _Replica:
        """Raises :class:`AssertionError` before :meth:`start`."""
        assert cls._here is not None
        return cls._here

    @classmethod
    def close_here(cls) -> None:
        """The replica ends: its job goes back to the queue. Safe twice, and before the start."""
        here, cls._here = cls._here, None
        if here is not None:
            here.service.close()

    def check_health(self) -> None:
        """Tell the keeper; drop jobs that nobody wants; look for new ones. Raises what is wrong."""
        if self.service.trouble is not None:
            raise DeviceLostError(self.service.trouble)
        for job in self._ray.get(self._keeper.beat.remote(self._name)):
            self.service.runner.cancel(job)
        self.service.runner.wake()

    def _ask(self, method: str, *args: Any, **more: Any) -> Any:
        try:
            return self._ray.get(self._keeper.call.remote(self._name, method, *args, **more))
        except self._ray.exceptions.RayTaskError as exc:
            raise exc.cause from None


class _Routed:
    """Notes which bundle or avatar a request is about, where its header says so: Serve then prefers this replica."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._serve = app, require_serve()

        @self._serve.multiplexed(max_num_models_per_replica=16)  # type: ignore[untyped-decorator,unused-ignore]
        async def note(name: str) -> str:
            return name  # loading is the service's, by what the request itself asks for

        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._serve.get_multiplexed_model_id() if scope["type"] != "lifespan" else ""
        if name:
            await self._note(name)
        await self._app(scope, receive, send)


class _WholePath:
    """Our routes are whole paths, whatever prefix Serve has found."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            root, path = scope.get("root_path", ""), scope["path"]
            whole = path if path.startswith(root) else root + path
            scope = {**scope, "root_path": "", "path": whole, "raw_path": whole.encode()}
        await self._app(scope, receive, send)


def _keeper(ray: Any, options: ServeOnRay) -> Any:
    """The keeper of this folder; the first replica starts it. It ends when no replica has spoken for a while."""
    folder = str(Path(options.data).absolute())
    settings = {
        "name": f"emo_rt keeper of {folder}",
        "namespace": "emo_rt",
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
    }
    keep_s = 3_600 * options.limits.keep_hours
    return ray.remote(_LonelyKeeper).options(**settings).remote(folder, keep_s)


class _LonelyKeeper(Keeper):
    """Ends its process when nobody has spoken for :data:`LONELY_S`."""

    LONELY_S = 60.0

    def __init__(self, folder: str, keep_s: float) -> None:
        super().__init__(folder, keep_s)
        self._spoken = threading.Event()
        threading.Thread(target=self._watch, name="emo_rt keeper", daemon=True).start()

    def beat(self, replica: str) -> list[Any]:
        self._spoken.set()
        return super().beat(replica)

    def _watch(self) -> None:
        while self._spoken.wait(self.LONELY_S):
            self._spoken.clear()
            threading.Event().wait(self.LONELY_S)
        os._exit(0)
