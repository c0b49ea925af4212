"""The causes that triage knows, read from `causes/*.toml` (one file per phase) and checked.

Matching happens on folded text: runs of white space are one blank, curly quotes straight, case does not count. A sign is
    role    `decisive`: enough alone, wherever it occurs. `complaint`: enough in a short excerpt, which people post because
            something is wrong; in a whole log, where such lines also occur on sound machines, only supporting.
            `supporting`: never enough alone.
    match   `regex` (default), `literal`, `request-error` (a number of OSSystemExtensionErrorDomain, in any spelling) or
            `fact` (what `history` found out: a final state, a crash, silence after an attempt).
    process only from these processes, where the process is known
    unless  not where the same message matches one of these
    with / absent   all of these must / none of these may occur anywhere in the input
    only    only in this sort of place: `log`, `text`, `crash`, `document`; `observed`, the events of our own case file, is
            looked at for signs that name it, and for no others
    weak    counts less; heavy counts more: it names the beginning of a chain of consequences
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal

import msgspec

from harness.errors import UsageError

PHASES: Final = (
    "packaging-signing",
    "policy-mdm",
    "request-location",
    "staging-validation",
    "approval-prompt",
    "replacement-upgrade",
    "launch-run",
    "xpc-ipc",
    "ne-session",
    "driverkit",
    "endpoint-security",
    "cmio",
    "kernel-panic",
    "host-app",
    "environment",
    "benign",
)
BENIGN: Final = frozenset({"healthy", "harmless-noise"})
Role = Literal["decisive", "complaint", "supporting"]
Reach = Literal["run", "request", "product", "machine"]

ERROR_NAMES: Final[Mapping[int, str]] = {
    1: "unknown",
    2: "missingEntitlement",
    3: "unsupportedParentBundleLocation",
    4: "extensionNotFound",
    5: "extensionMissingIdentifier",
    6: "duplicateExtensionIdentif(?:i)?er",
    7: "unknownExtensionCategory",
    8: "codeSignatureInvalid",
    9: "validationFailed",
    10: "forbiddenBySystemPolicy",
    11: "requestCancell?ed",
    12: "requestSuperseded",
    13: "authorizationRequired",
}
"""OSSystemExtensionError.Code, as Apple's documentation lists them (6 is spelled so there)."""


class CatalogError(UsageError):
    """A file of causes is not what it must be; says where."""


@dataclass(frozen=True)
class Sign:
    """One sign of a cause; see the module. `key` is unique in the catalog."""

    key: str
    role: Role
    match: str
    text: str
    process: frozenset[str] = frozenset()
    unless: tuple[str, ...] = ()
    with_: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    weak: bool = False
    heavy: bool = False

    @property
    def pattern(self) -> str | None:
        """The regular expression to look for; None for a fact."""
        if self.match == "fact":
            return None
        if self.match == "literal":
            return re.escape(fold(self.text))
        if self.match == "request-error":
            return request_error(int(self.text))
        return self.text


@dataclass(frozen=True)
class Cause:
    """One cause: what it is, how it shows, what to do about it.

    Attributes:
        reach: What it explains: `run` (why the run itself ended: the Mac or the way to it broke), `request` (why the request ended as it did), `product` (something of the product that
            does not work), `machine` (something on the machine).
        foreign: May be about another vendor's process: counts less where something else explains the failure.
        outranks: Causes that are only its consequence: where both are found, they come after it.
        over_by: Facts which say that things went on after it: then it comes after what else is found.
        herrings: What looks like it and is not, in words.
    """

    id: str
    title: str
    meaning: str
    phase: str
    severity: str
    owner: str
    confidence: str
    remedy: str
    signs: tuple[Sign, ...]
    reach: Reach = "product"
    foreign: bool = False
    outranks: tuple[str, ...] = ()
    over_by: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    herrings: tuple[str, ...] = ()

    @property
    def of_our_own(self) -> bool:
        """Whether it is known from the harness's own observations only, so never found in what is no case file."""
        return all(sign.only == {"observed"} for sign in self.signs)


@dataclass(frozen=True, eq=False)
class Catalog:
    """All causes, by code, in the order of their phases."""

    causes: Mapping[str, Cause]
    order: Mapping[str, int] = field(default_factory=dict)

    def get(self, code: str) -> Cause:
        """The cause of that code.

        Raises:
            UsageError: There is none; names the nearest.
        """
        found = self.causes.get(code)
        if found is None:
            near = difflib.get_close_matches(code, self.causes, n=1, cutoff=0.4)
            raise UsageError(
                "a cause code",
                seen=repr(code),
                hint=f"did you mean {near[0]}?" if near else "docs/causes.md lists them",
            )
        return found


class _SignData(msgspec.Struct, forbid_unknown_fields=True):
    role: Role
    text: str
    match: Literal["regex", "literal", "request-error", "fact"] = "regex"
    process: list[str] = []
    unless: list[str] = []
    with_: list[str] = msgspec.field(name="with", default_factory=list)
    absent: list[str] = []
    only: list[Literal["log", "text", "crash", "document", "observed"]] = []
    weak: bool = False
    heavy: bool = False


class _CauseData(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    title: str
    meaning: str
    severity: Literal["fatal", "degraded", "benign"]
    owner: str
    confidence: Literal["dts", "maintainer", "poster", "inferred"]
    remedy: str
    signs: list[_SignData]
    reach: Reach = "product"
    foreign: bool = False
    outranks: list[str] = []
    over_by: list[str] = []
    references: list[str] = []
    herrings: list[str] = []


class _FileData(msgspec.Struct, forbid_unknown_fields=True):
    phase: str
    cause: list[_CauseData]


@functools.cache
def load_catalog() -> Catalog:
    """The catalog that comes with the harness.

    Raises:
        CatalogError: One of its files is damaged.
    """
    folder = resources.files("harness.triage") / "causes"
    files = {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.name.endswith(".toml")}
    return read_catalog(files)


def read_catalog(files: Mapping[str, str]) -> Catalog:
    """A catalog from the texts of its files, by name.

    Raises:
        CatalogError: Broken TOML, an unknown key (the nearest known one is named), a code twice, an unknown code in
            `outranks`, a circle of them, or an expression that is broken or could take more than linear time.
    """
    causes: dict[str, Cause] = {}
    for name, text in files.items():
        for cause in _read_file(name, text):
            if cause.id in causes:
                raise CatalogError("each code once", seen=f"{cause.id} again in {name}")
            causes[cause.id] = cause
    for cause in causes.values():
        for other in cause.outranks:
            if other not in causes:
                near = difflib.get_close_matches(other, causes, n=1)
                raise CatalogError(
                    f"{cause.id} outranks a known code",
                    seen=other,
                    hint=f"did you mean {near[0]}?" if near else "",
                )
    _no_circles(causes)
    phases = {phase: number for number, phase in enumerate(PHASES)}
    ordered = sorted(causes.values(), key=lambda cause: phases[cause.phase])
    return Catalog({cause.id: cause for cause in ordered}, {cause.id: n for n, cause in enumerate(ordered)})


def _read_file(name: str, text: str) -> Iterator[Cause]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{name} is TOML", seen=str(error)) from error
    try:
        data = msgspec.convert(raw, _FileData)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{name} describes causes", seen=str(error), hint=_nearest(str(error))) from error
    if data.phase not in PHASES:
        raise CatalogError(f"{name} names a phase", seen=data.phase, hint=_near(data.phase, PHASES))
    for cause in data.cause:
        signs = tuple(_sign(f"{cause.id}#{n}", sign) for n, sign in enumerate(cause.signs))
        if not signs:
            raise CatalogError(f"{cause.id} has signs", seen="none")
        yield Cause(
            id=cause.id,
            title=cause.title,
            meaning=cause.meaning,
            phase=data.phase,
            severity=cause.severity,
            owner=cause.owner,
            confidence=cause.confidence,
            remedy=cause.remedy,
            signs=signs,
            reach=cause.reach,
            foreign=cause.foreign,
            outranks=tuple(cause.outranks),
            over_by=tuple(cause.over_by),
            references=tuple(cause.references),
            herrings=tuple(cause.herrings),
        )


def _sign(key: str, data: _SignData) -> Sign:
    if data.match == "request-error" and data.text not in {str(number) for number in ERROR_NAMES}:
        raise CatalogError(f"{key} names an error number from 1 to 13", seen=data.text)
    sign = Sign(
        key=key,
        role=data.role,
        match=data.match,
        text=data.text,
        process=frozenset(data.process),
        unless=tuple(data.unless),
        with_=tuple(data.with_),
        absent=tuple(data.absent),
        only=frozenset(data.only),
        weak=data.weak,
        heavy=data.heavy,
    )
    for expression in (sign.pattern, *sign.unless, *sign.with_, *sign.absent):
        if expression is not None and (complaint := complaint_about(expression)):
            raise CatalogError(f"{key} has a sound expression", seen=f"{expression!r}: {complaint}")
    return sign


def _nearest(message: str) -> str:
    found = re.search(r"unknown field `(\w+)`", message)
    if not found:
        return ""
    known = {f.encode_name for kind in (_SignData, _CauseData, _FileData) for f in msgspec.structs.fields(kind)}
    return _near(found.group(1), known)


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else ""


def _no_circles(causes: Mapping[str, Cause]) -> None:
    done: set[str] = set()

    def walk(code: str, path: tuple[str, ...]) -> None:
        if code in path:
            raise CatalogError("outranking without circles", seen=" > ".join((*path[path.index(code) :], code)))
        if code not in done:
            for other in causes[code].outranks:
                walk(other, (*path, code))
            done.add(code)

    for code in causes:
        walk(code, ())


_QUOTES: Final = str.maketrans("‘’‚“”„\u00a0", "'''\"\"\" ")


def fold(text: str) -> str:
    """`text` with each run of white space as one blank and straight quotes."""
    return " ".join(text.translate(_QUOTES).split())


def request_error(number: int) -> str:
    """An expression for that number of OSSystemExtensionErrorDomain, however it is spelled.

    `Code=4`, `error 4.`, `:4`, `-Fehler 4`, `エラー4`, a number before the domain, and the name in Swift or Objective-C.
    """
    name = ERROR_NAMES[number]
    domain = r"OSSystemExtensionError(?:Domain)?"
    forms = [
        rf"{domain}[^\d]{{0,24}}?(?<!\d){number}(?![\d]|\.\d)",
        rf"(?:code|error|rawvalue)[^\w]{{0,6}}{number}(?!\d)[^\d]{{0,60}}?OSSystemExtensionErrorDomain(?![^\d]{{0,24}}\d)",
        rf"OSSystemExtensionError\W{{0,3}}(?:Code\W{{0,3}})?{name}\b",
        rf"(?:system ?extension|sysext|extension request|driver extension|network extension|camera extension)[^\d]{{0,80}}?\b(?:error|code)[^\w]{{0,4}}(?:code[^\w]{{0,4}})?{number}(?![\d]|\.\d)",
    ]
    if number in (1, 11):  # words of every day: only where the domain names them
        return "|".join(forms[:3])
    forms.append(rf"(?<![\w]){name}(?![\w])")
    return "|".join(forms)


MAX_WIDE: Final = 3000
"""Characters that one repetition may run over."""
_PARSER: Any = getattr(re, "_parser")  # noqa: B009 - the standard library's own parser; there is no public one
_FEW: Final = 3
_NARROW: Final = frozenset({"CATEGORY_DIGIT", "CATEGORY_SPACE"})


def complaint_about(expression: str) -> str:
    """What is wrong with a regular expression, "" if it is sound: it compiles, matches no empty text, repeats nothing without
    a limit (but digits and blanks), has no repetition in a repetition and no two wide ones side by side. So its time grows
    with the text's length only.
    """
    try:
        tree = _PARSER.parse(expression, re.IGNORECASE)
    except (re.error, OverflowError) as error:
        return str(error)
    if tree.getwidth()[0] == 0:
        return "matches nothing at all"
    return _walk(tree, inside=False)


def _walk(tree: Any, *, inside: bool) -> str:
    wide_before = False
    for operation, argument in tree:
        name = str(operation)
        wide = False
        complaint = ""
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, body = argument
            wide = int(high) - int(low) > _FEW
            if int(high) > MAX_WIDE and not _is_narrow(body):
                return "something is repeated without a limit"
            if wide and inside:
                return "a repetition inside a repetition"
            if wide and wide_before and not _is_narrow(body):
                return "two wide repetitions side by side"
            complaint = _walk(body, inside=inside or wide)
        elif name == "SUBPATTERN":
            complaint = _walk(argument[-1], inside=inside)
        elif name == "BRANCH":
            complaint = next(filter(None, (_walk(branch, inside=inside) for branch in argument[1])), "")
        elif name in ("ASSERT", "ASSERT_NOT"):
            complaint = _walk(argument[1], inside=inside)
        elif name in ("GROUPREF", "GROUPREF_EXISTS"):
            return "a reference back to a group"
        if complaint:
            return complaint
        wide_before = wide  # a word's edge in between leaves one place to divide them
    return ""


def _is_narrow(body: Any) -> bool:
    if len(body) != 1 or str(body[0][0]) != "IN":
        return False
    return all(str(kind) == "CATEGORY" and str(which) in _NARROW for kind, which in body[0][1])
