"""The docstrings under the fields of a dataclass, at run time.

Python drops them, so they are read from the module's source: in a folder, a wheel, a zipped wheel, under ``-OO`` too.
Where only compiled files are installed there is no source; then the texts are empty and everything else goes on.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
from collections.abc import Mapping
from functools import cache

MARKUP = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``([^`]+)``")
"""A reference like ``:class:`a.B```, or code."""


@cache
def field_docs(cls: type) -> Mapping[str, str]:
    """Field → its docstring, cleaned of indentation; those of base classes, too."""
    inherited = {name: text for base in reversed(cls.__bases__) for name, text in field_docs(base).items()}
    return inherited | (_own_docs(cls) if cls is not object else {})


def _own_docs(cls: type) -> dict[str, str]:
    classes = (node for node in _module(cls.__module__).body if isinstance(node, ast.ClassDef))
    body = next((node.body for node in classes if node.name == cls.__name__), [])
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def plain(text: str) -> str:
    """One paragraph without markup and line ends."""
    return " ".join(MARKUP.sub(lambda found: found[1] or found[2], text).split())


@cache
def _module(name: str) -> ast.Module:
    try:
        source = inspect.getsource(sys.modules[name])
    except (OSError, TypeError):  # only compiled, or made by a program
        source = ""
    return ast.parse(source)
