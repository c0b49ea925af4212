"""The images that the simulated registry has.

Names after github.com/cirruslabs/macos-image-templates. `vanilla` images have System Integrity Protection on, `base`
images off and the guest agent in them. Builds: Apple's security releases pages (support.apple.com/100100).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from harness.simulator.interfaces import MacOSVersion

HOST = "ghcr.io"

VERSIONS: dict[str, MacOSVersion] = {
    "monterey": MacOSVersion("12", "12.7.6", "21H1320", "21.6.0"),
    "ventura": MacOSVersion("13", "13.7.8", "22H730", "22.6.0"),
    "sonoma": MacOSVersion("14", "14.8.3", "23J220", "23.6.0"),
    "sequoia": MacOSVersion("15", "15.6.1", "24G90", "24.6.0"),
    "tahoe": MacOSVersion("26", "26.1", "25B78", "25.1.0"),
}
FLAVOURS = ("vanilla", "base")


@dataclass(frozen=True)
class Image:
    """One image: what a clone of it is."""

    reference: str
    macos: MacOSVersion
    sip: bool
    agent: bool
    disk_gb: int = 50
    size_gb: float = 25.3

    @property
    def digest(self) -> str:
        """Its content address; made from the name and the build, for there is no content."""
        return "sha256:" + hashlib.sha256(f"{self.reference}|{self.macos.build}".encode()).hexdigest()


_REMOTE = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?)/(?P<namespace>[a-z0-9_][a-z0-9_./-]*?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*)|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class RemoteName:
    """`host[:port]/namespace[:tag|@sha256:…]`."""

    host: str
    namespace: str
    reference: str

    @property
    def is_digest(self) -> bool:
        """Named by content instead of by tag."""
        return self.reference.startswith("sha256:")

    def __str__(self) -> str:
        return f"{self.host}/{self.namespace}{'@' if self.is_digest else ':'}{self.reference}"


def parse_remote(name: str) -> RemoteName | None:
    """The remote name, or None where it is a local one. A missing tag is `latest`."""
    match = _REMOTE.fullmatch(name)
    if match is None or ".." in match["namespace"].split("/") or match["namespace"].endswith("/"):
        return None
    return RemoteName(match["host"], match["namespace"], match["digest"] or match["tag"] or "latest")


def find_image(name: RemoteName) -> Image | None:
    """What the registry has under that name."""
    if name.host != HOST:
        return None
    for word, macos in VERSIONS.items():
        for flavour in FLAVOURS:
            if name.namespace == f"cirruslabs/macos-{word}-{flavour}":
                vanilla = flavour == "vanilla"
                image = Image(f"{HOST}/{name.namespace}", macos, sip=vanilla, agent=not vanilla)
                return image if name.reference in ("latest", macos.product, image.digest) else None
    return None


def all_references() -> list[str]:
    """Every image there is, by its tag `latest`."""
    return [f"{HOST}/cirruslabs/macos-{word}-{flavour}:latest" for word in VERSIONS for flavour in FLAVOURS]
