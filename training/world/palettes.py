"""Colours that go together."""

from __future__ import annotations

import colorsys
import math
from functools import lru_cache

Color = tuple[int, int, int]


def rgb(code: str) -> Color:
    """A colour from its six hexadecimal digits."""
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def _all(codes: str) -> tuple[Color, ...]:
    return tuple(rgb(code) for code in codes.split())


WHITE: Color = (255, 255, 255)
INK: Color = rgb("2B2230")

SKINS = _all("FFE6D8 FCDAC4 F8CDB4 F4C29A EDB68A E2A677 D3935F C07F4F A86A40 8E5A3C 704A35 5A3D2E F7CFC2 E9C2A2")
NATURAL_HAIR = _all(
    "1E1A1F 2A2024 3A2A26 4A3228 5C3A29 74492F 8E5A36 A8703F C48B4E DDB06A EBCB8B B5522B 9A3E22 D9D3CC A39C9A 6C6768"
)
DYED_HAIR = _all("E58CA5 6FA9C9 8C7BC0 3E8E8A C2496B 4B5FA8 F2A65A")
IRISES = _all("4A2E1E 6B4226 8A5A2B 5B7A3A 3F7F6B 3E7CB1 5A8FBF 6E7F8F 2E2622 7A6BA8")
LIPS = _all("D9777A C8605F E08A80 B84A52 CF4B57 A63D4F B5606B 8E3B46 E59A94 C97B6B 9C4A3E D66A86")
CLOTHES = _all(
    "E4572E 2E86AB F6AE2D 33658A 55828B 7A9E7E E9C46A 2A9D8F 264653 F4A261 6D597A B56576 355070 EAAC8B "
    "F7EDE2 3D405B 81B29A E07A5F F2CC8F 22333B A8DADC 457B9D D62839 FFFFFF 1D3557 8338A0 5F7A3C"
)
BACKDROPS = _all(
    "F9E2D2 D7E8E4 CFE3F2 FBEFC9 E6DDF0 F6D5D8 DDE8C9 BFD7D2 F2C6A0 A9C7DE B7CDB0 EFE6DA C9BEDF F5B7A8 "
    "8FB9C4 F2D16B 7FA99B E8A0A8 5F8CA8 46627A D9D9E3 FDF6EC 9AD0C2 C1D3FE"
)
FRAMES = _all("23201F 5A3A28 8C2F39 B08D57 2F4858 D8D3CC 6B4C7A")


def mix(first: Color, second: Color, amount: float) -> Color:
    """`amount` 0 gives the first colour, 1 the second."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(first, second, strict=True))
    return red, green, blue


def luma(color: Color) -> float:
    """Perceived lightness, 0 to 255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def distance(first: Color, second: Color) -> float:
    """How different two colours look: lightness counts most. 0 to about 1000."""
    across = math.dist(first, second)
    return across + 1.5 * abs(luma(first) - luma(second))


@lru_cache(maxsize=4096)
def tune(color: Color, hue: float = 0.0, saturation: float = 1.0, value: float = 1.0) -> Color:
    """Turn the hue (in turns), scale saturation and value."""
    h, s, v = colorsys.rgb_to_hsv(*(part / 255 for part in color))
    red, green, blue = colorsys.hsv_to_rgb((h + hue) % 1.0, min(1.0, s * saturation), min(1.0, v * value))
    return round(red * 255), round(green * 255), round(blue * 255)


def shadow_of(color: Color) -> Color:
    """The colour in shade: darker, a little more saturated, a little cooler."""
    return tune(color, hue=-0.012, saturation=1.2 if luma(color) > 130 else 1.06, value=0.82)


def light_of(color: Color) -> Color:
    """The colour in light."""
    pale = luma(color) > 215
    return mix(tune(color, saturation=0.95 if pale else 0.85, value=1.1), (255, 246, 230), 0.05 if pale else 0.12)


def lips_for(skin: Color, wanted: Color, beard: Color | None = None) -> Color:
    """Lips that can be told from the skin, and from a beard around them: darker on light skin, rosier on dark skin."""
    lips = mix(skin, wanted, 0.82)
    if luma(skin) < 110:
        lips = mix(lips, (226, 128, 128), 0.55)
    step = (120, 30, 45) if luma(skin) >= 110 else (240, 150, 150)
    for _ in range(8):
        if distance(lips, skin) >= 95:
            break
        lips = mix(lips, step, 0.15)
    if beard is not None and distance(lips, beard) < 120:
        options = [lips, *(mix(lips, tone, 0.7) for tone in ((238, 150, 146), (140, 34, 50), (196, 82, 92)))]
        lips = max(options, key=lambda option: min(distance(option, beard), distance(option, skin)))
    return lips
