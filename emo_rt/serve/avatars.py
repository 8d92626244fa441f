"""Portraits that were uploaded once: kept as what the networks made of them, and prepared again for another model."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from emo_rt.animator import Animator
from emo_rt.errors import ConfigError, EmoRtError, InputError
from emo_rt.faces.style import mismatch
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.request import PrepareOptions, Request
from emo_rt.serve.decoding import load_sent
from emo_rt.serve.errors import refusal
from emo_rt.serve.records import AvatarRecord
from emo_rt.serve.store import Store, folder_bytes

FEATURES, SHOWN = "avatar.npz", "picture.jpg"
"""Files of an avatar, beside the decoded picture."""
KEPT = 8
"""Avatars that stay loaded in one model of one device. The one that was used longest ago goes first."""
WAITED_FOR = 1.0
"""Priority of what a caller waits for, before jobs and behind live sessions."""
QUALITY = 90
"""Of the picture that is shown, as JPEG."""


class Avatars:
    """Avatars of one server. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: OrderedDict[tuple[str, Animator], Avatar] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, record: AvatarRecord, incoming: Path, prepare: PrepareOptions, animator: Animator) -> AvatarRecord:
        """Prepare the decoded picture in ``incoming`` and keep everything. Raises :class:`ApiError`."""
        avatar = prepared(animator, incoming, prepare, WAITED_FOR)
        try:
            portrait = avatar.portrait
            Image.fromarray(portrait.picture).save(incoming / SHOWN, quality=QUALITY)
            avatar.save(incoming / FEATURES)
        except EmoRtError as exc:
            raise refusal(exc) from exc
        height, width = portrait.picture.shape[:2]
        face = portrait.face.scaled(portrait.crop.width / animator.config.size)
        face = face.shifted(portrait.crop.left, portrait.crop.top)
        warning = mismatch(animator.bundle.trained_on, portrait.picture, face, animator.config.name)
        values = record.row() | {
            "width": width,
            "height": height,
            "face_box": json.dumps([round(side, 1) for side in (face.left, face.top, face.right, face.bottom)]),
            "warning": warning,
            "bytes": folder_bytes(incoming),
        }
        full = AvatarRecord(**{**values, "options": record.options, "face_box": json.loads(values["face_box"])})
        self._store.add(full, incoming)
        self._remember((full.id, animator), avatar)
        return full

    def get(self, record: AvatarRecord, animator: Animator, priority: float = 0) -> Avatar:
        """The avatar, loaded on the device of ``animator``, with ``priority`` there where that must be done.

        It is never closed while somebody has it: dropping it gives its memory back.
        """
        name = record.id, animator
        with self._lock:
            found = self._loaded.get(name)
        if found is None or found.features.is_closed:
            found = self._load(record, animator, priority)
        self._remember(name, found)
        return found

    def forget(self, record: AvatarRecord) -> None:
        """It was deleted."""
        with self._lock:
            for name in [name for name in self._loaded if name[0] == record.id]:
                del self._loaded[name]

    def _load(self, record: AvatarRecord, animator: Animator, priority: float) -> Avatar:
        place = self._store.place(record)
        try:
            return animator.load_avatar(place / FEATURES, priority=priority)
        except InputError:  # the bundle is another one by now
            request = Request.from_dict({"portrait": "portrait", "voice": "voice", **record.options})
            return prepared(animator, place, request.prepare, priority)

    def _remember(self, name: tuple[str, Animator], avatar: Avatar) -> None:
        with self._lock:
            self._loaded[name] = avatar
            self._loaded.move_to_end(name)
            beside = [one for one in self._loaded if one[1] is name[1]]
            for oldest in beside[:-KEPT]:
                del self._loaded[oldest]


def prepared(animator: Animator, folder: Path, options: PrepareOptions, priority: float = 0) -> Avatar:
    """An avatar of the decoded picture in a folder. Raises :class:`ApiError` 400 where no face can be used."""
    try:
        return animator.prepare(load_sent(folder), priority=priority, options=options)
    except (ConfigError, InputError) as exc:
        raise refusal(exc, "input_reference") from exc
