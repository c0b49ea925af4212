"""Settings and app files written as TOML: what a replay or a bisection hands to pytest. Only what TOML can hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config import AppFile, Release
from harness.errors import EnvironmentFailure

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML text. None and empty tables are left out: the reader's defaults stand for them.

    Raises:
        TypeError: Something that TOML has no form for.
    """
    return "\n".join(_table(table, ())).lstrip("\n") + "\n"


def write_toml(path: Path, table: Mapping[str, Any], comment: str = "") -> Path:
    """Write a table into a file, all of it or nothing; `comment` goes before it.

    Raises:
        EnvironmentFailure: It cannot be written here.
    """
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(head + as_toml(table), encoding="utf-8", errors="replace")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EnvironmentFailure(f"{path} to be written", seen=str(error), hint="is the disk full?") from error
    return path


def app_table(app: AppFile, releases: list[Release]) -> dict[str, Any]:
    """An app file's content with other releases, its relative paths made absolute: it may be written anywhere."""
    data = app.model_dump(mode="json", exclude={"path", "releases"}, exclude_defaults=True)
    rows = []
    for release in releases:
        row = release.model_dump(mode="json", exclude_defaults=True)
        for key in ("source", "pkg"):
            text = row.get(key)
            if isinstance(text, str) and "://" not in text and not text.startswith(("pypi:", "/", "~")):
                row[key] = str(app.path.parent / text)
        rows.append(row)
    return {**data, "releases": rows}


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = []
    inner = []
    for key, value in table.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            if value:
                inner += ["", f"[{_dotted((*path, key))}]", *_table(value, (*path, key))]
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                inner += ["", f"[[{_dotted((*path, key))}]]", *_table(item, (*path, key))]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + inner


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(_key(part) for part in path)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return _text(str(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"TOML has no form for {type(value).__name__}")


def _text(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL; and half a surrogate pair is no character at all.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
