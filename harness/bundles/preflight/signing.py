"""Judges of signatures, seals, tickets and teams."""

from __future__ import annotations

from collections.abc import Iterator

from harness.bundles.facts import CodeItem
from harness.bundles.preflight.common import authority_of, entitlements_of, hosts, place, programs, team_of
from harness.bundles.preflight.rules import Said, Subject, judges

_PROBLEMS = {
    "signature-intact": {
        "unsealed-bytes",
        "signature-unreadable",
        "signature-layout",
        "code-limit",
        "page-hash",
        "slot-differs",
        "slot-missing",
        "slot-unsealed",
        "directories-disagree",
        "entitlements-unreadable",
        "requirements-unreadable",
        "cms-unreadable",
        "cms-signature",
        "cms-cdhash",
        "cms-extra",
    },
    "resources-intact": {
        "resources-missing",
        "resources-unreadable",
        "resource-added",
        "resource-missing",
        "resource-altered",
    },
    "developer-signature": {"unsigned", "adhoc", "cms-untrusted", "cms-expired"},
    "secure-timestamp": {"timestamp-missing", "timestamp-wrong"},
    "signature-clean": {"signature-remains"},
    "ticket-genuine": {"ticket-unreadable", "ticket-unverified"},
}


def _of(subject: Subject, rule: str) -> Iterator[Said]:
    for problem in subject.seen.problems:
        if problem.code in _PROBLEMS[rule]:
            yield problem.where, problem.what


@judges("signature-intact")
def intact(subject: Subject) -> Iterator[Said]:
    """Hashes of code and of what is sealed, and the signature over them."""
    yield from _of(subject, "signature-intact")


@judges("signature-clean")
def clean(subject: Subject) -> Iterator[Said]:
    """What an older signature left behind."""
    yield from _of(subject, "signature-clean")


@judges("resources-intact")
def resources(subject: Subject) -> Iterator[Said]:
    """Files against the seal."""
    yield from _of(subject, "resources-intact")


@judges("developer-signature")
def developer(subject: Subject) -> Iterator[Said]:
    """Signed, and by whom."""
    yield from _of(subject, "developer-signature")


@judges("secure-timestamp")
def timestamps(subject: Subject) -> Iterator[Said]:
    """There, and right."""
    yield from _of(subject, "secure-timestamp")


@judges("hardened-runtime")
def hardened(subject: Subject) -> Iterator[Said]:
    """Of programs; drivers and what the store sells need it not."""
    for item, part in programs(subject.seen):
        if part.signed and not part.hardened and item.kind != "dext" and authority_of(item) != "app-store":
            yield place(item, part), "signed without the hardened runtime"


@judges("no-get-task-allow")
def debuggable(subject: Subject) -> Iterator[Said]:
    """Of programs."""
    for item, part in programs(subject.seen):
        if part.entitlements.get("com.apple.security.get-task-allow") is True:
            yield place(item, part), "com.apple.security.get-task-allow is true"


@judges("ticket-stapled")
def stapled(subject: Subject) -> Iterator[Said]:
    """Of what Developer ID signs; the store notarizes nothing, and development builds are not notarized."""
    if subject.seen.ticket is not None or authority_of(subject.seen.app) != "developer-id":
        return
    if not any(problem.code == "ticket-unreadable" for problem in subject.seen.problems):
        yield "Contents/CodeResources", "no ticket is stapled to the app"


@judges("ticket-covers-code")
def covered(subject: Subject) -> Iterator[Said]:
    """Every slice of everything signed."""
    ticket = subject.seen.ticket
    if ticket is None:
        return
    for item in subject.seen.items():
        for part in item.slices:
            hashes = {part.cdhash, *part.cdhashes.values()}
            if part.signed and not any(ticket.covers(value[:40]) for value in hashes):
                yield place(item, part), f"the ticket does not name its cdhash {part.cdhash}"


@judges("ticket-genuine")
def genuine(subject: Subject) -> Iterator[Said]:
    """Its signature and chain."""
    yield from _of(subject, "ticket-genuine")


@judges("team-consistent")
def teams(subject: Subject) -> Iterator[Said]:
    """Of slices, certificates, profiles and identifiers."""
    for problem in subject.seen.problems:
        if problem.code == "team-differs":
            yield problem.where, problem.what
    wanted = team_of(subject.seen.app)
    for item in hosts(subject.seen):
        for part in item.slices:
            if part.signed and part.team != wanted:
                yield place(item, part), f"signed by team {part.team or '(none)'}, the app by {wanted or '(none)'}"
        if item.profile is not None and wanted and item.profile.team != wanted:
            yield _profile(item), f"of team {item.profile.team or '(none)'}, the app is signed by {wanted}"
        claimed = entitlements_of(item).get("com.apple.developer.team-identifier")
        if isinstance(claimed, str) and claimed != team_of(item):
            yield place(item), f"its entitlements name team {claimed}, its signature {team_of(item) or '(none)'}"
        yield from _application_identifier(item)


def _application_identifier(item: CodeItem) -> Iterator[Said]:
    claimed = entitlements_of(item).get("com.apple.application-identifier")
    if not isinstance(claimed, str):
        return
    prefix, _, identifier = claimed.partition(".")
    if identifier != item.bundle_id:
        yield place(item), f"its application identifier is {claimed}, its bundle {item.bundle_id}"
    # App IDs of before 2011 have a prefix of their own; then the profile says the same.
    allowed = item.profile.entitlements.get("com.apple.application-identifier") if item.profile is not None else None
    known = allowed.partition(".")[0] if isinstance(allowed, str) else team_of(item)
    if prefix not in (team_of(item), known):
        yield place(item), f"its application identifier {claimed} is not of team {team_of(item) or '(none)'}"


def _profile(item: CodeItem) -> str:
    inner = "embedded.provisionprofile" if item.kind == "dext" else "Contents/embedded.provisionprofile"
    return f"{item.path}/{inner}" if item.path else inner


@judges("signing-identifier")
def identifiers(subject: Subject) -> Iterator[Said]:
    """Of app and extensions."""
    for item in hosts(subject.seen):
        for part in item.slices:
            if part.signed and item.bundle_id and part.identifier != item.bundle_id:
                yield place(item, part), f"signed as {part.identifier}, the bundle is {item.bundle_id}"
