"""Our TOML files: read once into tables of known keys; wrong keys are named with the nearest right one."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.events import SECRETS

MacOS = Literal["12", "13", "14", "15", "26"]
Lane = Literal["pristine", "instrumented", "sip-off", "managed"]


class Table(BaseModel):
    """What the tables of our TOML files are: frozen, without unknown keys.

    Attributes:
        not_written: Fields that are set by who reads the file, and no file may give.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
    not_written: ClassVar[frozenset[str]] = frozenset()


_Model = TypeVar("_Model", bound=Table)


def load_table(path: Path, model: type[_Model], *, hint: str) -> _Model:
    """Read another TOML file of ours into its own table class (a subclass of `Table`).

    Args:
        path: The file.
        model: What it must be.
        hint: Where its keys are explained.

    Raises:
        UsageError: It is missing, not TOML, or says something unknown (names the nearest) or wrong.
    """
    data = read_toml(path)
    check_keys(data, model, str(path))
    return validated(model, data, str(path), hint=hint)


def read_toml(path: Path) -> dict[str, Any]:
    """What a file says.

    Raises:
        UsageError: It is missing, cannot be read, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.loads(file.read(16 << 20).decode("utf-8"))
    except FileNotFoundError:
        near = ", ".join(sorted(map(str, path.parent.glob("*.toml")))[:5]) or "none"
        raise UsageError(f"a TOML file at {path}", seen=f"no such file; here: {near}", hint="check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        told = str(getattr(error, "strerror", None) or error)
        raise UsageError(f"a readable TOML file at {path}", seen=told, hint="check the path, mend the file") from error


def table_of(annotation: Any) -> type[Table] | None:
    """The table class behind a field's annotation, through Optional and list."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    if typing.get_origin(annotation) in (list, types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            table = table_of(part)
            if table is not None:
                return table
    return None


def check_keys(data: Mapping[str, Any], model: type[Table], origin: str, prefix: str = "") -> None:
    """See that a file says nothing unknown.

    Raises:
        UsageError: It does; names the key with its tables, and the nearest that there is.
    """
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None or key in model.not_written:
            raise UsageError(
                f"a known key in {origin}",
                seen=f"'{prefix}{key}'",
                hint=nearest(key, model.model_fields.keys() - model.not_written),
            )
        table = table_of(field.annotation)
        if table is None:
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Mapping):
                check_keys(part, table, origin, f"{prefix}{key}.")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for who wrote a word that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"


def validated(
    model: type[_Model], data: Mapping[str, Any], origin: str, *, hint: str = "see docs/settings.md"
) -> _Model:
    """The table of that data, which `origin` says.

    Raises:
        UsageError: A wrong value; secrets in it are masked.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = first.get("input")
        seen = f"'{where}': {first['msg']}" + (
            "" if isinstance(given, dict) else f" (given: {SECRETS.mask(repr(given))})"
        )
        raise UsageError(f"usable values in {origin}", seen=seen, hint=hint) from error
