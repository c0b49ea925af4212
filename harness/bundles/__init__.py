"""What is inside an app, a package or a disk image, without a Mac; and where releases come from."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.bundles.app import AppBundle, SystemExtensionBundle, open_app
    from harness.bundles.archives import Kind, detect_kind, extract, unpack
    from harness.bundles.diskimage import DiskImage
    from harness.bundles.executables import Executable, Slice, read_executable
    from harness.bundles.failures import BundleError
    from harness.bundles.inspection import Inspection, inspect_app, inspect_file
    from harness.bundles.package import Component, Package, read_package
    from harness.bundles.releases import check_release, fetch_release
    from harness.bundles.sink import Limits, Sink

# Each name is imported when it is first asked for: who only inspects a folder needs no disk images, and no settings.
_WHERE = {
    "AppBundle": "app",
    "BundleError": "failures",
    "Component": "package",
    "DiskImage": "diskimage",
    "Executable": "executables",
    "Inspection": "inspection",
    "Kind": "archives",
    "Limits": "sink",
    "Package": "package",
    "Sink": "sink",
    "Slice": "executables",
    "SystemExtensionBundle": "app",
    "check_release": "releases",
    "detect_kind": "archives",
    "extract": "archives",
    "fetch_release": "releases",
    "inspect_app": "inspection",
    "inspect_file": "inspection",
    "open_app": "app",
    "read_executable": "executables",
    "read_package": "package",
    "unpack": "archives",
}

__all__ = [
    "AppBundle",
    "BundleError",
    "Component",
    "DiskImage",
    "Executable",
    "Inspection",
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
    "inspect_app",
    "inspect_file",
    "open_app",
    "read_executable",
    "read_package",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"harness.bundles.{_WHERE[name]}"), name)
