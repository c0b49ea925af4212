"""An inspection as people read it: at most 100 columns, what matters first, nothing repeated."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.bundles.app import kinds_of
from harness.bundles.facts import CodeItem, Inspection, Problem, Profile, SliceFacts, Ticket
from harness.formats.plists import table_of, text_of, texts_of

WIDTH = 100
_FLAGS = {
    0x1: "host",
    0x2: "ad-hoc",
    0x100: "hard",
    0x200: "kill",
    0x400: "expires",
    0x800: "restrict",
    0x1000: "enforcement",
    0x2000: "library validation",
    0x10000: "hardened runtime",
    0x20000: "linker-signed",
}
_MANY = 40
_LABEL = 13


def as_text(inspection: Inspection) -> str:
    """The whole of it."""
    lines = [inspection.name, *_item(inspection.app, inspection.app)]
    if inspection.ticket is not None:
        lines += ["", *_ticket(inspection.ticket, inspection)]
    else:
        lines += ["", *_row("ticket", "none stapled")]
    for item in (*inspection.extensions, *inspection.others):
        lines += ["", *_wrapped(printable(f"{item.kind}: {item.path}"), 0, 4), *_item(item, inspection.app)]
    lines += ["", "tree", *_tree(_short(inspection.tree, 4 * _MANY))]
    lines += ["", *problems_text(inspection.problems, verified=inspection.verified)]
    return "\n".join(lines) + "\n"


def item_text(item: CodeItem, problems: Sequence[Problem], *, verified: bool) -> str:
    """One file on its own."""
    return "\n".join([item.path, *_item(item, None), "", *problems_text(problems, verified=verified)]) + "\n"


def problems_text(problems: Sequence[Problem], *, verified: bool) -> list[str]:
    """What is odd, a paragraph each."""
    if not problems:
        return ["nothing odd" + ("" if verified else " (not verified)")]
    lines = [f"odd ({len(problems)})"]
    for problem in problems[: 2 * _MANY]:
        lines += _wrapped(f"{problem.code}: {printable(problem.where)}: {printable(problem.what)}", 2, 4)
    if len(problems) > 2 * _MANY:
        lines.append(f"  … and {len(problems) - 2 * _MANY} more")
    return lines


def printable(text: str) -> str:
    """A text from a bundle, safe for a terminal: control characters are shown, not sent."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _item(item: CodeItem, app: CodeItem | None) -> Iterator[str]:
    if item.bundle_id:
        version = f"{item.version} ({item.build})" if item.build else item.version
        yield from _row("bundle", f"{item.bundle_id} {version}, {item.package_type or 'no package type'}")
    yield from _info(item)
    if item.executable and item.executable != item.path:
        yield from _row("executable", item.executable)
    before: SliceFacts | None = None
    for part in item.slices:
        yield from _slice(part, before)
        before = part
    if item.profile is not None:
        yield from _profile(item.profile)
    if item.resources is not None:
        check = item.resources
        state = (
            "intact"
            if check.ok
            else ", ".join(
                f"{len(names)} {word}"
                for names, word in ((check.added, "added"), (check.missing, "missing"), (check.altered, "altered"))
                if names
            )
        )
        yield from _row("resources", f"{check.sealed} sealed, {state}")
    if app is not None and item is not app and item.slices and app.slices and item.archs != app.archs:
        yield from _row("note", f"slices {', '.join(item.archs)}; the app has {', '.join(app.archs)}")


def _info(item: CodeItem) -> Iterator[str]:
    info = item.info
    if minimum := text_of(info.get("LSMinimumSystemVersion")):
        yield from _row("needs", f"macOS {minimum}")
    network = table_of(info.get("NetworkExtension"))
    providers = table_of(network.get("NEProviderClasses"))
    if item.kind in ("system-extension", "dext"):
        entitlements = item.slices[0].entitlements if item.slices else {}
        kinds, category = kinds_of(f".{item.path.rpartition('.')[2]}", info, entitlements, providers)
        yield from _row("kind", f"{category or 'unclear'}: {' or '.join(kinds) or 'unclear'}")
    for point, name in providers.items():
        yield from _row("provider", f"{point.removeprefix('com.apple.networkextension.')}: {text_of(name)}")
    if service := text_of(network.get("NEMachServiceName")):
        yield from _row("mach service", service)
    for key in ("NSSystemExtensionUsageDescription", "OSBundleUsageDescription"):
        if usage := text_of(info.get(key)):
            yield from _row("usage", usage)


def _slice(part: SliceFacts, before: SliceFacts | None) -> Iterator[str]:
    system = " ".join(piece for piece in (part.platform, part.min_os) if piece) or "no system named"
    yield from _row(part.arch, f"{part.uuid or 'no UUID'}, {system}, SDK {part.sdk or '?'}")
    if not part.signed:
        yield from _row("", "not signed")
        return
    names = [name for bit, name in _FLAGS.items() if part.flags & bit]
    runtime = f" {part.runtime}" if part.runtime else ""
    yield from _row("", f"cdhash {part.cdhash}, flags {part.flags:#x} {', '.join(names) or 'none'}{runtime}")
    others = [f"{name} {value}" for name, value in part.cdhashes.items() if value != part.cdhash]
    if others:
        yield from _row("", "also " + ", ".join(others))
    if part.page_hash_ok is not None:
        wrong = [f"{name} {state}" for name, state in part.slots.items() if state != "ok"]
        pages = "all pages intact" if part.page_hash_ok else "PAGES DIFFER"
        sealed = ", ".join(name for name, state in part.slots.items() if state == "ok")
        yield from _row("", "; ".join([pages, *([f"sealed: {sealed}"] if sealed else []), *wrong]))
    if before is not None and _identity(before) == _identity(part):
        yield from _row("", "signed like the slice before" if part.cms else "identity as before")
        if part.cms is not None and part.cms.timestamp is not None:
            yield from _row("timestamp", _stamp(part))
        return
    yield from _signature(part)


def _identity(part: SliceFacts) -> tuple[object, ...]:
    cms = part.cms
    chain = (tuple(item.sha256 for item in cms.chain), cms.trusted, cms.signature_ok) if cms else None
    return (part.identifier, part.team, chain, repr(part.entitlements), repr(part.entitlements_der), part.requirement)


def _signature(part: SliceFacts) -> Iterator[str]:
    yield from _row("identifier", f"{part.identifier}, team {part.team or 'none'}")
    if part.cms is None:
        yield from _row("identity", "signed by nobody (ad-hoc)" if part.adhoc else "not verified")
    else:
        holds = "signature holds" if part.cms.signature_ok else "SIGNATURE DOES NOT HOLD"
        root = "chain to Apple's root" if part.cms.trusted else "NO CHAIN TO APPLE'S ROOT"
        yield from _row("identity", f"{part.cms.signer or 'unknown'}: {holds}, {root}")
        for certificate in part.cms.chain:
            yield from _row("", f"{certificate.name}, until {certificate.not_after:%Y-%m-%d}")
        if part.cms.signing_time is not None:
            yield from _row("signed", f"{part.cms.signing_time:%Y-%m-%d %H:%M:%S} UTC, says the signer")
        yield from _row("timestamp", _stamp(part))
    if part.requirement:
        yield from _row("requires", part.requirement)
    yield from _entitlements("entitlements", part.entitlements)
    if part.entitlements_der is not None:
        same = repr(sorted(part.entitlements_der.items())) == repr(sorted(part.entitlements.items()))
        yield from _row("in DER", "the same" if same else "DIFFERENT")
    elif part.entitlements:
        yield from _row("in DER", "none")


def _stamp(part: SliceFacts) -> str:
    stamp = part.cms.timestamp if part.cms else None
    if stamp is None:
        return "none"
    return f"{stamp.time:%Y-%m-%d %H:%M:%S} UTC, {stamp.tsa or 'unknown'}" + (
        ", holds" if stamp.ok else f", DOES NOT HOLD: {stamp.why_not}"
    )


def _entitlements(label: str, table: Mapping[str, Any]) -> Iterator[str]:
    if not table:
        yield from _row(label, "none")
    for key, value in list(table.items())[:_MANY]:
        shown = ", ".join(texts_of(value)) if isinstance(value, list) else repr(value)
        yield from _row(label, f"{key} = {shown if len(shown) < 500 else shown[:497] + '…'}")
        label = ""
    if len(table) > _MANY:
        yield from _row("", f"… and {len(table) - _MANY} more")


def _profile(profile: Profile) -> Iterator[str]:
    state = {True: "signed by Apple", False: "SIGNATURE DOES NOT HOLD", None: "not verified"}[profile.verified]
    devices = "all devices" if profile.all_devices else f"{len(profile.devices)} devices"
    until = f"until {profile.expires:%Y-%m-%d}" if profile.expires else "without an end"
    yield from _row(
        "profile", f"{profile.name} {profile.uuid}, team {profile.team or 'none'}, {until}, {devices}, {state}"
    )
    yield from _row("", f"certificates {', '.join(profile.certificates[:3]) or 'none'}")
    yield from _entitlements("allows", profile.entitlements)


def _ticket(ticket: Ticket, inspection: Inspection) -> Iterator[str]:
    state = {True: "verified", False: "SIGNATURE DOES NOT HOLD", None: "not verified"}[ticket.verified]
    yield from _row("ticket", f"notarized {ticket.time:%Y-%m-%d %H:%M:%S} UTC, {state}; it covers")
    known = {
        part.cdhash: f"{item.path.rpartition('/')[2] or 'the app'} ({part.arch})"
        for item in inspection.items()
        for part in item.slices
    }
    for cdhash in ticket.cdhashes[:_MANY]:
        yield from _row("", f"{cdhash} {known.pop(cdhash, 'which is not in here')}")
    if len(ticket.cdhashes) > _MANY:
        yield from _row("", f"… and {len(ticket.cdhashes) - _MANY} more")
    for cdhash, name in known.items():
        if cdhash and cdhash not in ticket.cdhashes:
            yield from _row("NOT COVERED", name)


def _row(label: str, text: str) -> list[str]:
    head = f"  {label:<{_LABEL}}"
    lines = textwrap.wrap(printable(text), WIDTH - len(head), break_on_hyphens=False) or [""]
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]


def _wrapped(text: str, first: int, then: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * first, subsequent_indent=" " * then, break_on_hyphens=False)


def _tree(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        path = line.partition(" -> ")[0]
        depth = path.rstrip("/").count("/")
        by = 2 + 2 * min(depth, 20)
        yield from _wrapped(printable(line[len(path.rstrip("/").rpartition("/")[0]) + (depth > 0) :]), by, by + 4)


def _short(lines: Sequence[str], most: int) -> list[str]:
    return [*lines[:most], f"… and {len(lines) - most} more"] if len(lines) > most else list(lines)
