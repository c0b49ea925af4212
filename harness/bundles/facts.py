"""What an inspection finds out about an app: plain records, nothing judged. Rules, reports and triage are made of these.

Times are aware (UTC). Hashes and fingerprints are lower-case hex; UUIDs upper case, as crash reports have them.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

CodeKind = Literal["app", "system-extension", "dext", "framework", "xpc", "helper", "library"]
SlotState = Literal["ok", "differs", "missing", "unsealed"]
"""Of a thing that a code directory has a hash for: it fits, it does not, it is not there; or it is there with no hash."""


@dataclass(frozen=True)
class Problem:
    """Something odd.

    Attributes:
        code: A stable word, one of `PROBLEMS`.
        where: The path within the bundle, and the slice where it is one's: `Contents/MacOS/App (arm64)`.
        what: What was expected and what was seen, as a phrase.
    """

    code: str
    where: str
    what: str


PROBLEMS: dict[str, str] = {
    "info-unreadable": "an Info.plist is missing or damaged",
    "executable-missing": "the executable that Info.plist names is not there",
    "executable-unreadable": "a Mach-O file is damaged",
    "fat-layout": "the slices of a fat file lie not as their table says, or it tells another processor than the slice",
    "unsealed-bytes": "bytes that no signature covers are not zero: between slices, behind the code, behind the last",
    "unsigned": "a slice has no code signature",
    "signature-unreadable": "a slice's code signature is damaged",
    "signature-layout": "a code signature holds what none of its parts is: unknown or overlapping blobs, bytes between them",
    "signature-remains": "the room left behind a signature is not zeros: remains of a larger one before it, mostly",
    "code-limit": "a code directory does not reach up to the signature",
    "page-hash": "a page of code differs from its hash",
    "slot-differs": "a sealed part (Info.plist, requirements, resources, entitlements …) differs from its hash",
    "slot-missing": "a part that is sealed is not there",
    "slot-unsealed": "a part is there, and no code directory has a hash for it",
    "directories-disagree": "the code directories of one slice tell different identifiers, teams or flags",
    "entitlements-unreadable": "the entitlements, XML or DER, are damaged",
    "entitlements-differ": "the entitlements in XML are not those in DER",
    "requirements-unreadable": "the requirements are damaged",
    "adhoc": "a slice is signed by nobody",
    "cms-unreadable": "the signature's CMS message is damaged or of an unknown kind",
    "cms-signature": "the signature does not fit the code directory, or the key of its certificate",
    "cms-cdhash": "the signed list of cdhashes is not that of the code directories",
    "cms-untrusted": "the certificate does not lead to one of Apple's roots",
    "cms-expired": "a certificate was not valid when the code was signed",
    "cms-extra": "certificates or bytes in the CMS message that nothing vouches for",
    "team-differs": "the certificate's team is not the code directory's",
    "timestamp-missing": "no secure timestamp",
    "timestamp-wrong": "the secure timestamp is damaged, of another signature, or not by a trusted authority",
    "resources-missing": "a bundle without _CodeSignature/CodeResources",
    "resources-unreadable": "CodeResources is damaged",
    "resource-added": "a file that the seal does not know",
    "resource-missing": "a sealed file is not there",
    "resource-altered": "a file, link or nested code is not what was sealed",
    "ticket-unreadable": "the stapled notarization ticket is damaged",
    "ticket-unverified": "the ticket's signature or chain is wrong",
    "profile-unreadable": "the embedded provisioning profile is damaged",
    "profile-unverified": "the profile's signature or chain is wrong",
    "link-outside": "a symbolic link leads out of the bundle, or nowhere",
    "tree-special": "something that is neither file, folder nor link",
    "tree-too-large": "more files, deeper folders or more code than is looked at",
}
"""Every code of a problem, and what it means."""


@dataclass(frozen=True)
class CertificateFacts:
    """One certificate. `name` is the common name; `team` the organisational unit."""

    name: str
    team: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha1: str
    sha256: str
    extensions: tuple[str, ...] = field(default=(), repr=False)
    """Object identifiers: Apple marks what a certificate is for by them."""


@dataclass(frozen=True)
class TimestampFacts:
    """A secure timestamp.

    Attributes:
        time: When the authority saw the signature.
        tsa: The authority's common name.
        ok: Its own signature, its chain to Apple's root and the hash of what it stamps are right.
        why_not: What is wrong, "" for nothing.
    """

    time: datetime
    tsa: str
    ok: bool
    why_not: str = ""


@dataclass(frozen=True)
class CmsFacts:
    """Who signed, and whether it holds.

    Attributes:
        signer: The common name of the certificate.
        chain: From the signer's certificate towards the root, as far as it leads; the root itself included.
        trusted: The chain reaches one of Apple's roots, every signature in it right.
        signature_ok: The message's signature fits its certificate, and its digest the code directory (or content).
        cdhash_attr_ok: The signed cdhash lists are those of the code directories; None where there are none.
        signing_time: As the signer claims.
        timestamp: The secure timestamp; None without one.
    """

    signer: str
    chain: tuple[CertificateFacts, ...]
    trusted: bool
    signature_ok: bool
    cdhash_attr_ok: bool | None
    signing_time: datetime | None
    timestamp: TimestampFacts | None

    @property
    def leaf(self) -> CertificateFacts | None:
        """The signer's certificate."""
        return self.chain[0] if self.chain else None

    @property
    def authority(self) -> str:
        """What kind of signature: `developer-id`, `app-store`, `apple-development`, `apple`, or "" for anything else."""
        leaf = self.leaf
        if leaf is None or not self.trusted:
            return ""
        for oid, kind in _AUTHORITIES:
            if oid in leaf.extensions:
                return kind
        return "apple" if leaf.name == "Software Signing" else ""


# Marker extensions of leaf certificates (Apple's certificate policy statements).
_AUTHORITIES = (
    ("1.2.840.113635.100.6.1.13", "developer-id"),
    ("1.2.840.113635.100.6.1.7", "app-store"),
    ("1.2.840.113635.100.6.1.9", "app-store"),
    ("1.2.840.113635.100.6.1.12", "apple-development"),
    ("1.2.840.113635.100.6.1.2", "apple-development"),
    ("1.2.840.113635.100.6.1.4", "apple-distribution"),
)


@dataclass(frozen=True)
class SliceFacts:
    """One architecture of one Mach-O file.

    Attributes:
        arch: `arm64`, `arm64e`, `x86_64`, …
        uuid: LC_UUID; "" without one.
        cdhash: The one macOS goes by; "" when unsigned.
        cdhashes: Of every code directory, by hash: `{"sha256": …, "sha1": …}`, the best first.
        min_os: "12.0".
        sdk: "14.5".
        platform: `macos`, `driverkit`, …
        file_type: Mach-O's number: 2 an executable, 6 a library, 8 a bundle.
        flags: The code directory's flags.
        team: "" when signed by nobody, or without a team.
        identifier: The signing identifier.
        hardened: Hardened runtime.
        runtime: The hardened runtime's version.
        adhoc: Signed by nobody (no certificate).
        entitlements: From the XML.
        entitlements_der: From the DER; None without such a part.
        requirement: The designated requirement, as `codesign -d -r-` writes it; "" for the implicit one.
        page_hash_ok: Every page of code has its hash; None when unsigned or not verified.
        slots: Special slots by name: `info`, `requirements`, `resources`, `entitlements`, `entitlements-der`, `rep-specific`,
            `launch-self`, `launch-parent`, `launch-responsible`, `library`.
        cms: None when unsigned or ad-hoc.
    """

    arch: str
    uuid: str
    cdhash: str
    cdhashes: Mapping[str, str]
    min_os: str
    sdk: str
    platform: str
    file_type: int
    flags: int
    team: str
    identifier: str
    hardened: bool
    runtime: str
    adhoc: bool
    entitlements: Mapping[str, Any] = field(repr=False)
    entitlements_der: Mapping[str, Any] | None = field(repr=False)
    requirement: str
    page_hash_ok: bool | None
    slots: Mapping[str, SlotState]
    cms: CmsFacts | None

    @property
    def signed(self) -> bool:
        """It has a code signature, be it by nobody."""
        return bool(self.cdhash)


@dataclass(frozen=True)
class Profile:
    """An embedded provisioning profile.

    Attributes:
        name: As its owner named it.
        uuid: Its identifier.
        team: The first team identifier.
        created: When it was made.
        expires: When it ends.
        entitlements: What it allows.
        certificates: SHA-1 of the certificates that may sign.
        devices: Identifiers of the devices it is for; empty with `all_devices`.
        all_devices: ProvisionsAllDevices: Developer ID.
        platform: `OSX`, … as it says.
        verified: Signed by Apple, chain to Apple's root, content unaltered; None when not verified.
        signer: The common name of its signer.
    """

    name: str
    uuid: str
    team: str
    created: datetime | None
    expires: datetime | None
    entitlements: Mapping[str, Any] = field(repr=False)
    certificates: tuple[str, ...]
    devices: tuple[str, ...]
    all_devices: bool
    platform: tuple[str, ...]
    verified: bool | None
    signer: str = ""


@dataclass(frozen=True)
class Ticket:
    """A stapled notarization ticket.

    Attributes:
        cdhashes: The code it covers.
        time: When Apple issued it.
        verified: Its signature fits its certificate, whose chain reaches Apple's root; None when not verified.
        chain: Its certificates, the signer's first.
    """

    cdhashes: tuple[str, ...]
    time: datetime
    verified: bool | None
    chain: tuple[CertificateFacts, ...]

    def covers(self, cdhash: str) -> bool:
        """Whether that code is notarized by it."""
        return cdhash in self.cdhashes


@dataclass(frozen=True)
class ResourceCheck:
    """Sealed resources compared with the files; paths are relative to the bundle that is sealed.

    Attributes:
        sealed: How many are sealed.
        added: Files that the seal does not know.
        missing: Sealed, not optional, not there.
        altered: Another content, another link, or another code inside.
    """

    sealed: int
    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing added, missing or altered."""
        return not (self.added or self.missing or self.altered)


@dataclass(frozen=True)
class CodeItem:
    """One piece of code: a bundle, or a Mach-O file on its own.

    Attributes:
        path: Relative to the app's folder; "" is the app itself.
        kind: What it is.
        info: Its Info.plist; empty without one.
        package_type: CFBundlePackageType: `APPL`, `SYSX`, `DEXT`, `FMWK`, `XPC!`.
        bundle_id: CFBundleIdentifier.
        version: CFBundleShortVersionString.
        build: CFBundleVersion.
        executable: The Mach-O file, relative to the app's folder; "" without one.
        slices: Its architectures, in the file's order.
        profile: The embedded provisioning profile.
        resources: The seal, compared with the files; None for a file on its own, unsigned code, or when not verified.
    """

    path: str
    kind: CodeKind
    info: Mapping[str, Any] = field(repr=False)
    package_type: str
    bundle_id: str
    version: str
    build: str
    executable: str
    slices: tuple[SliceFacts, ...]
    profile: Profile | None
    resources: ResourceCheck | None

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures, in the file's order."""
        return tuple(part.arch for part in self.slices)

    @property
    def signed(self) -> bool:
        """Every slice has a code signature."""
        return bool(self.slices) and all(part.signed for part in self.slices)

    def slice_of(self, arch: str) -> SliceFacts | None:
        """The slice of that architecture."""
        return next((part for part in self.slices if part.arch == arch), None)


@dataclass(frozen=True)
class Inspection:
    """Everything that is known of an app without running it.

    Attributes:
        name: The folder's name: `Example.app`.
        app: The app itself.
        extensions: Its system extensions and drivers.
        others: Frameworks, helpers, XPC services, libraries: any other Mach-O file in it.
        tree: Every path in it, `/` behind folders, ` -> target` behind links.
        ticket: The stapled ticket.
        problems: Everything odd, in the order it was met.
        verified: Signatures and hashes were checked, not only read.
    """

    name: str
    app: CodeItem
    extensions: tuple[CodeItem, ...]
    others: tuple[CodeItem, ...]
    tree: tuple[str, ...] = field(repr=False)
    ticket: Ticket | None
    problems: tuple[Problem, ...]
    verified: bool

    def items(self) -> Iterator[CodeItem]:
        """The app, its extensions, the rest."""
        yield self.app
        yield from self.extensions
        yield from self.others

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON: times as ISO 8601, data as base64."""
        plain = as_plain(self)
        assert isinstance(plain, dict)
        return plain


def as_plain(value: object) -> Any:
    """A record for JSON: times as ISO 8601, data as base64."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, str):  # a name on disk need not be UTF-8
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, int | float | bool):
        return value
    return str(value)  # a plist's UID, and whatever else comes
