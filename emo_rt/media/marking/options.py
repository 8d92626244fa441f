"""Which marks a video gets, beside the one in its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from emo_rt.checks import check
from emo_rt.media.marking.code import PAYLOAD_BITS
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import Outside, check_options

GENERATED = "AI-generated video"
"""How the mark in a file's metadata begins."""


@dataclass(frozen=True, kw_only=True)
class MarkOptions:
    """Marks that say that a video was made by a machine."""

    watermark: bool = True
    """Put an imperceptible watermark into the picture.

    Where both sides have 64 pixels or more."""
    watermark_key: Annotated[str | None, Outside(placeholder="TEXT")] = field(default=None, repr=False)
    """Text that somebody must know to find the watermark. ``None`` = everybody can.

    Not kept in the file. Two different keys do not see each other."""
    watermark_payload: Annotated[int, Range(0, 2**PAYLOAD_BITS - 1, "0 … 2^48 - 1"), Outside(placeholder="N")] = 0
    """Number that the watermark carries, like that of a customer or a job."""
    visible_label: bool = False
    """Draw a small label, AI-generated, at the start and every 30 seconds.

    For 3 seconds each time, at the lower left."""
    c2pa_cert: Annotated[str | Path | None, Outside(placeholder="CHAIN.pem")] = None
    """Certificate with its chain: the finished file is signed (C2PA, needs emo_rt[provenance]). ``None`` = it is not.

    PEM, the signer's own first."""
    c2pa_key: Annotated[str | Path | None, Outside(placeholder="KEY.pem")] = None
    """Private key of that certificate. ``None`` = there is none.

    PEM, PKCS 8, not encrypted."""

    def __post_init__(self) -> None:
        check_options(self)
        both = (self.c2pa_cert is None) == (self.c2pa_key is None)
        check(both, "c2pa_cert, c2pa_key", (self.c2pa_cert, self.c2pa_key), "both, or none of them")
