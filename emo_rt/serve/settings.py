"""What the person who starts the server decides."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from emo_rt.errors import ConfigError
from emo_rt.media.marking.options import MarkOptions
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import Outside, check_options

MEGABYTE = 1 << 20
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
"""Form of a host name."""


@dataclass(frozen=True)
class Limits:
    """What one server, and one key, may take. Without keys all callers together are one."""

    max_upload_mb: Annotated[int, Range(1, 16_000), Outside(placeholder="MB")] = 64
    """Largest body of a request, in units of 2**20 bytes."""
    max_pixels: Annotated[int, Range(1_024, 80_000_000), Outside(placeholder="N")] = 40_000_000
    """Largest picture that is decoded, in pixels. A larger JPEG is decoded at a half, a quarter or an eighth."""
    max_seconds: Annotated[float, Range(0.1, 14_400), Outside(placeholder="SECONDS")] = 300.0
    """Longest sound of a job, in seconds."""
    max_queue: Annotated[int, Range(1, 100_000), Outside(placeholder="N")] = 200
    """Jobs that wait or run."""
    max_queue_per_key: Annotated[int, Range(1, 100_000), Outside(placeholder="N")] = 100
    """Jobs of one key that wait or run."""
    max_sessions: Annotated[int, Range(0, 1_000), Outside(placeholder="N")] = 4
    """Live sessions at a time. The device may hold fewer."""
    max_sessions_per_key: Annotated[int, Range(0, 1_000), Outside(placeholder="N")] = 2
    """Live sessions of one key."""
    max_requests_per_minute: Annotated[int | None, Range(1, 1_000_000), Outside(placeholder="N")] = None
    """Uploads and live sessions that one key may begin in a minute. ``None`` = any number."""
    max_storage_mb: Annotated[int, Range(1, 100_000_000), Outside(placeholder="MB")] = 10_000
    """Jobs and avatars on disk, in units of 2**20 bytes."""
    max_storage_mb_per_key: Annotated[int, Range(1, 100_000_000), Outside(placeholder="MB")] = 5_000
    """The same of one key. Avatars stay until they are deleted."""
    min_free_mb: Annotated[int, Range(0, 100_000_000), Outside(placeholder="MB")] = 256
    """Space that stays free on the disk; no job is taken when there is less."""
    keep_hours: Annotated[float, Range(0, math.inf, "more than 0, or inf", is_open=True)] = 24.0
    """Hours after which a finished job is deleted."""
    decode_seconds: Annotated[float, Range(1, 3_600), Outside(placeholder="SECONDS")] = 30.0
    """Time in which an upload must be decoded."""
    decode_memory_mb: Annotated[int, Range(64, 1_000_000), Outside(placeholder="MB")] = 1_024
    """Memory that decoding one upload may take, in units of 2**20 bytes."""
    drain_seconds: Annotated[float, Range(0, 86_400), Outside(placeholder="SECONDS")] = 30.0
    """Time that a running job gets to finish when the server ends; then it goes back to the queue."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens and where it keeps things."""

    host: Annotated[str, Outside(placeholder="ADDRESS")] = "127.0.0.1"
    """Address to listen on. Others than loopback need a key."""
    port: Annotated[int, Range(0, 65_535)] = 8000
    """Port. 0 = any that is free."""
    data: Annotated[str, Outside(placeholder="FOLDER")] = "emo_rt_data"
    """Folder for jobs, avatars and hashes of keys. Made if it is not there."""
    allow_host: Annotated[str | None, Outside(placeholder="NAME,…")] = None
    """Names by which the server may be called, like talk.example.com. Addresses and localhost always are. ``None`` =
    none."""
    allow_origin: Annotated[str | None, Outside(placeholder="ORIGIN,…")] = None
    """Origins of other pages that may send requests, like https://app.example.com. ``None`` = none."""
    devices: Annotated[str | None, Outside(placeholder="DEVICE,…")] = None
    """Devices that share the work, each with its own copy of every model, like cpu,cuda. ``None`` = one, that of
    ``device``."""
    exit_when_lost: bool = False
    """End with an error when the device has failed for good, for supervisors that do not ask ``/health``."""
    limits: Annotated[Limits, Outside(is_hidden=True)] = field(default_factory=Limits)
    """What callers may take."""
    marks: Annotated[MarkOptions, Outside(is_hidden=True)] = field(default_factory=MarkOptions)
    """Marks of all pictures that the server sends. Finished videos are signed; live streams cannot be."""

    def __post_init__(self) -> None:
        check_options(self)
        for name in self.hosts:
            if not NAME.fullmatch(name):
                raise ConfigError(f"allow_host has {name!r}; expected names without scheme and port, like example.com")
        for origin in self.origins:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ConfigError(f"allow_origin has {origin!r}; expected origins like https://app.example.com")

    @property
    def device_names(self) -> tuple[str, ...]:
        """Devices that share the work; none where it is left open."""
        return tuple(name.strip() for name in (self.devices or "").split(",") if name.strip())

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return Path(self.data).absolute()

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which the server may be called."""
        return frozenset(name.strip().lower() for name in (self.allow_host or "").split(",") if name.strip())

    @property
    def origins(self) -> frozenset[str]:
        """Origins of other pages that may send requests."""
        return frozenset(name.strip().lower() for name in (self.allow_origin or "").split(",") if name.strip())

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
