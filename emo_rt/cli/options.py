"""Options of a dataclass as options of a command: flags, values and help come from the dataclass alone."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from emo_rt.errors import EmoRtError
from emo_rt.media.video_file import FORMATS
from emo_rt.schema.compound import Coded, Files
from emo_rt.schema.kinds import Choice, Kind, Switch
from emo_rt.schema.option import Option, options_of

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""How names of written pictures end."""
SENTENCE = re.compile(r"(^|\. )(?:(Hallo)|([A-Z])(?=[a-z]*(?:[\s:]|\.(?:\s|$))))?")
"""Where a sentence starts, and its first letter if that is a capital because it is the first; a name keeps its own."""

ConfigT = TypeVar("ConfigT")


def add_options(
    group: Any,
    cls: type,
    *,
    only: Collection[str] | None = None,
    leave_out: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Add all options of the dataclass ``cls``, or some of them, by their names.

    ``group``: a parser or a group of it. ``defaults``: values that are other than those of the dataclass.
    """
    options = {option.name: option for option in options_of(cls) if not option.is_hidden}
    for name in only if only is not None else [name for name in options if name not in leave_out]:
        option = options[name]
        _add(group, option, (defaults or {}).get(name, option.default))


def read_options(args: argparse.Namespace, cls: type[ConfigT], **more: Any) -> ConfigT:
    """The dataclass from the options that were added of it, and ``more`` fields. Raises :class:`ConfigError`."""
    options = options_of(cast(type, cls))
    given = {option.field: getattr(args, option.name) for option in options if hasattr(args, option.name)}
    return cls(**{**given, **more})


def add_overwrite(group: Any, what: str = "video") -> None:
    """``--overwrite``."""
    group.add_argument("--overwrite", action="store_true", help=f"replace an existing {what} (default: refuse)")


def add_json(parser: Any) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="as JSON with a stable schema (default: as text)")


def add_quiet(group: Any) -> None:
    """``--quiet``."""
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, no receipt; errors and warnings only (default: off)"
    )


def video_name(text: str) -> str:
    """``-``, or a name that ends as videos do."""
    if text != "-" and Path(text).suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} is no video name; it must end in {', '.join(FORMATS)}")
    return text


def picture_name(text: str) -> Path:
    """A name that ends as pictures do."""
    if Path(text).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} is no picture name; it must end in {', '.join(PICTURES)}")
    return Path(text)


def _add(group: Any, option: Option, default: Any) -> None:
    flag, kind = f"--{option.name.replace('_', '-')}", option.kind
    settings: dict[str, Any] = {"default": default, "help": _help(option, default), "dest": option.name}
    if isinstance(kind, Files):
        settings |= {"type": _reader(kind.item), "nargs": "+", "metavar": option.placeholder}
    elif not isinstance(kind, Switch):
        settings["type"] = _reader(kind)
        settings |= {"choices": kind.choices} if isinstance(kind, Choice) else {"metavar": option.placeholder}
    elif option.is_optional:
        settings["action"] = argparse.BooleanOptionalAction
    elif default:
        flag, settings["action"] = f"--no-{flag[2:]}", "store_false"
    else:
        settings["action"] = "store_true"
    group.add_argument(flag, **settings)


def _help(option: Option, default: Any) -> str:
    """``guidance scale; 1 = none, about twice as fast [0 … 50] (default: the model's own)``."""
    text = SENTENCE.sub(_joined, option.text).removesuffix(".").replace("%", "%%")
    shown = option.absent if default is None else "%(default)s"
    if isinstance(option.kind, Files) and not default:
        shown = ""
    elif isinstance(option.kind, Coded) and default is not None:  # as it is typed
        shown = str(option.kind.dump(default))
    if isinstance(option.kind, Switch) and default is False:
        shown = "off"
    elif isinstance(option.kind, Switch) and default is True and not option.is_optional:
        text, shown = f"don't {text}", text.split()[0]
    span = f" [{option.kind.range_words}]" if option.kind.range_words else ""
    return f"{text}{span}" + (f" (default: {shown})" if shown not in ("", "none") else "")


def _joined(found: re.Match[str]) -> str:
    """Sentences of a docstring → one line of parts, as command lines write them."""
    start, name, letter = found.groups(default="")
    return ("; " if start else "") + (name or letter.lower())


def _reader(kind: Kind) -> Callable[[str], Any]:
    """Only reads: the range is the dataclass's to check."""

    def read(text: str) -> Any:
        try:
            return kind.read(text)
        except EmoRtError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r} cannot be read; expected {kind.words}") from exc

    return read
