"""The kernels that TensorRT for RTX compiled for a plan, kept beside it for the next process."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from typing import Any

from emo_rt.device.tensorrt.owned_files import OwnedFolder, write_owned
from emo_rt.device.tensorrt.plan import Plan
from emo_rt.errors import EngineError

logger = logging.getLogger(__name__)


class KernelCache:
    """A runtime cache on disk. Without it, or where it cannot be written, loading only takes longer."""

    def __init__(self, plan: Plan) -> None:
        """The file is named after the plan's content: one of an older plan is never used."""
        self.path = plan.path.with_suffix(f".{plan.record.sha256[:12]}.kernels")
        self._cache: Any = None
        self._loaded = b""

    def attach(self, config: Any) -> None:
        """Let contexts of this ``IRuntimeConfig`` use the cache."""
        self._cache = config.create_runtime_cache()
        self._loaded = self._read()
        if self._loaded and not self._cache.deserialize(self._loaded):
            logger.info("%s is of another version or GPU; kernels are compiled again", self.path)
            self._loaded = b""
        if not config.set_runtime_cache(self._cache):
            self._cache = None

    def save(self) -> None:
        """Write what was compiled since, for this user only. A folder that cannot be written is no error."""
        if self._cache is None:
            return
        serialized = self._cache.serialize()
        if serialized is None:  # there is nothing to keep
            return
        data = bytes(serialized)
        if hashlib.sha256(data).digest() == hashlib.sha256(self._loaded).digest():
            return
        with suppress(OSError):
            write_owned(self.path, data, 0o600)

    def _read(self) -> bytes:
        """Native code as well: read under the same rules as a plan."""
        try:
            with OwnedFolder(self.path.parent) as folder:
                return folder.read(self.path.name) if self.path.name in folder.names() else b""
        except (OSError, EngineError) as exc:
            logger.info("%s is not used: %s", self.path, exc)
            return b""
