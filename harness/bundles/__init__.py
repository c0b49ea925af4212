"""What is inside an app, a package or a disk image, without a Mac; and where releases come from."""

from harness.bundles.app import AppBundle, SystemExtensionBundle, open_app
from harness.bundles.archives import Kind, detect_kind, extract, unpack
from harness.bundles.diskimage import DiskImage
from harness.bundles.executables import Executable, Slice, read_executable
from harness.bundles.failures import BundleError
from harness.bundles.package import Component, Package, read_package
from harness.bundles.releases import check_release, fetch_release
from harness.bundles.sink import Limits, Sink

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
