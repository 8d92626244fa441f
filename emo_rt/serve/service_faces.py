"""What is seen in a picture, before anything is made of it."""

from __future__ import annotations

from typing import Any

from emo_rt.errors import EmoRtError
from emo_rt.faces import default_finder
from emo_rt.faces.choice import remarks
from emo_rt.faces.style import mismatch
from emo_rt.serve.decoding import load_sent
from emo_rt.serve.errors import refusal
from emo_rt.serve.forms import Upload
from emo_rt.serve.records import new_id
from emo_rt.serve.service import Service


def faces_of(service: Service, upload: Upload) -> dict[str, Any]:
    """Boxes of the faces, what is odd about them, and what each model would say of the picture's kind.

    Raises :class:`ApiError`.
    """
    with service.store.incoming(new_id("faces")) as incoming:
        service.decode(incoming, upload, None, None)
        try:
            picture = load_sent(incoming)
            faces = default_finder().find(picture.pixels)
        except EmoRtError as exc:
            raise refusal(exc, "input_reference") from exc
    warnings = {}
    if faces:
        for name, animator in service.models.items():
            warnings[name] = mismatch(animator.bundle.trained_on, picture.pixels, faces[0].box, animator.config.name)
    faces = [face.scaled(1 / picture.across, 1 / picture.down) for face in faces]
    return {
        "object": "faces",
        "width": picture.width,
        "height": picture.height,
        "faces": [
            {
                "box": [round(side, 1) for side in (face.box.left, face.box.top, face.box.right, face.box.bottom)],
                "score": round(float(face.score), 4),
                "remarks": list(remarks(face)),
            }
            for face in faces
        ],
        "warnings": {name: said for name, said in warnings.items() if said},
    }
