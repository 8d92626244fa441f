"""The examples of docs/agents.md, by framework."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parent.parent / "docs" / "agents.md"


def talking_agents() -> dict[str, str]:
    """Name of the adapter's module → code."""
    blocks = re.findall(r"^```python\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {re.findall(r"emo_rt\.integrations\.(\w+)", block)[0]: block for block in blocks}


def example(name: str) -> ModuleType:
    """One of them as a module, imported with its framework."""
    module = ModuleType(f"example_of_{name}")
    exec(compile(talking_agents()[name], str(PAGE), "exec"), module.__dict__)
    return module
