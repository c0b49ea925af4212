"""`/Library/SystemExtensions/db.plist`, sysextd's own record: the first witness of the oracle.

Keys as in posted databases; all but `identifier` and `state` may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.formats.failures import FormatError
from harness.formats.plists import load_plist, table_of, text_of, texts_of
from harness.formats.states import is_known_state, is_leftover, normalise_state

PATH = "/Library/SystemExtensions/db.plist"
MAX_EXTENSIONS = 10_000
_PREFIX = "com.apple.system_extension."


@dataclass(frozen=True)
class Reference:
    """An app that asked for the extension."""

    app_identifier: str
    app_reference: str
    team: str


@dataclass(frozen=True)
class StagedSlice:
    """The code-directory hash of one staged slice, with Mach-O's numbers for its processor."""

    cdhash: str
    cpu_type: int
    cpu_subtype: int


@dataclass(frozen=True)
class DatabaseExtension:
    """One entry.

    Attributes:
        identifier: Bundle identifier.
        team: Team identifier; "" for an ad-hoc signature.
        unique_id: Name of its folder below /Library/SystemExtensions.
        state: With underscores.
        short: CFBundleShortVersionString.
        build: CFBundleVersion.
        categories: Without their common beginning: `network_extension`, …
        bundle_path: The app that carries it; "" when sysextd has none ("$null").
        origin_path: Where the extension was copied from.
        staged_path: Its copy below /Library/SystemExtensions; "" when not staged.
        staged_cdhashes: One per slice; empty on older systems.
        launchd_entries: Whether `additionalLaunchdPlistEntries` is there. Absent after a replacement is a finding.
        references: The apps that asked for it.
    """

    identifier: str
    team: str
    unique_id: str
    state: str
    short: str
    build: str
    categories: tuple[str, ...]
    bundle_path: str
    origin_path: str
    staged_path: str
    staged_cdhashes: tuple[StagedSlice, ...]
    launchd_entries: bool
    references: tuple[Reference, ...]

    @property
    def known(self) -> bool:
        """Whether the state is one that this project knows."""
        return is_known_state(self.state)

    @property
    def leftover(self) -> bool:
        """Whether the entry is an old copy on its way out."""
        return is_leftover(self.state)


@dataclass(frozen=True)
class ExtensionPolicy:
    """One MDM policy: which teams and which of their extensions need no approval."""

    allowed_teams: tuple[str, ...]
    allowed_extensions: tuple[tuple[str, tuple[str, ...]], ...]
    keys: tuple[str, ...]
    """All keys of the policy, also those not read."""


@dataclass(frozen=True)
class ExtensionDatabase:
    """The whole record."""

    version: int | None
    boot_uuid: str
    developer_mode: bool
    extensions: tuple[DatabaseExtension, ...]
    policies: tuple[ExtensionPolicy, ...]

    def of(self, identifier: str, *, leftovers: bool = False) -> tuple[DatabaseExtension, ...]:
        """The entries of that bundle identifier; two live ones mean that a replacement is in progress."""
        return tuple(e for e in self.extensions if e.identifier == identifier and (leftovers or not e.leftover))


def parse_database(data: bytes) -> ExtensionDatabase:
    """Read a database.

    Raises:
        FormatError: It is no property list, or not one of sysextd's.
    """
    plist = load_plist(data, PATH, hint=f"look at it with: plutil -p {PATH}")
    extensions = plist.get("extensions", [])
    if not isinstance(extensions, list) or not ({"extensions", "version", "bootUUID"} & plist.keys()):
        raise FormatError(
            f"{PATH} to hold a list of extensions",
            seen=f"keys {', '.join(sorted(plist)[:12]) or 'none'}",
            hint="is this the right file?",
        )
    version = plist.get("version")
    policies = plist.get("extensionPolicies", [])
    return ExtensionDatabase(
        version=version if isinstance(version, int) else None,
        boot_uuid=text_of(plist.get("bootUUID")),
        developer_mode=bool(plist.get("developerMode", False)),
        extensions=tuple(_extension(item) for item in extensions[:MAX_EXTENSIONS] if isinstance(item, dict)),
        policies=tuple(_policy(item) for item in policies if isinstance(item, dict))
        if isinstance(policies, list)
        else (),
    )


def _extension(item: dict[str, Any]) -> DatabaseExtension:
    version = table_of(item.get("bundleVersion"))
    team = text_of(item.get("teamID"))
    references = item.get("references")
    return DatabaseExtension(
        identifier=text_of(item.get("identifier")),
        team="" if team == "-" else team,
        unique_id=text_of(item.get("uniqueID")),
        state=normalise_state(text_of(item.get("state"))),
        short=text_of(version.get("CFBundleShortVersionString")),
        build=text_of(version.get("CFBundleVersion")),
        categories=tuple(name.removeprefix(_PREFIX) for name in texts_of(item.get("categories"))),
        bundle_path=text_of(table_of(item.get("container")).get("bundlePath")),
        origin_path=text_of(item.get("originPath")),
        staged_path=_path(text_of(table_of(item.get("stagedBundleURL")).get("relative"))),
        staged_cdhashes=tuple(
            StagedSlice(name.lower(), _number(table_of(cpu).get("cputype")), _number(table_of(cpu).get("cpusubtype")))
            for name, cpu in sorted(table_of(item.get("stagedCdhashes")).items())
        ),
        launchd_entries=bool(item.get("additionalLaunchdPlistEntries")),
        references=tuple(
            Reference(text_of(r.get("appIdentifier")), text_of(r.get("appRef")), text_of(r.get("teamID")))
            for r in references
            if isinstance(r, dict)
        )
        if isinstance(references, list)
        else (),
    )


def _policy(item: dict[str, Any]) -> ExtensionPolicy:
    return ExtensionPolicy(
        allowed_teams=texts_of(item.get("allowedTeamIDs")),
        allowed_extensions=tuple(
            (team, texts_of(names)) for team, names in sorted(table_of(item.get("allowedExtensions")).items())
        ),
        keys=tuple(sorted(str(key) for key in item)),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _path(url: str) -> str:
    """The path of a `file:` URL; a plain path as it is."""
    if not url.startswith("file:"):
        return url
    try:
        return unquote(urlsplit(url).path).rstrip("/")
    except ValueError:  # a bracket that starts an address
        return ""
