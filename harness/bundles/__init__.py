"""What is inside an app, a package or a disk image, without a Mac; and where releases come from."""

from typing import TYPE_CHECKING, Any

from harness.bundles.app import AppBundle, SystemExtensionBundle, open_app
from harness.bundles.archives import Kind, detect_kind, extract, unpack
from harness.bundles.diskimage import DiskImage
from harness.bundles.executables import Executable, Slice, read_executable
from harness.bundles.failures import BundleError
from harness.bundles.package import Component, Package, read_package
from harness.bundles.sink import Limits, Sink

if TYPE_CHECKING:
    from harness.bundles.releases import check_release, fetch_release

__all__ = [
    "AppBundle",
    "BundleError",
    "Component",
    "DiskImage",
    "Executable",
    "Kind",
    "Limits",
    "Package",
    "Sink",
    "Slice",
    "SystemExtensionBundle",
    "check_release",
    "detect_kind",
    "extract",
    "fetch_release",
    "open_app",
    "read_executable",
    "read_package",
    "unpack",
]


def __getattr__(name: str) -> Any:
    # Releases need the settings, which take longer to import than all else here; who only opens a bundle needs neither.
    if name in ("check_release", "fetch_release"):
        from harness.bundles import releases

        return getattr(releases, name)
    raise AttributeError(name)
