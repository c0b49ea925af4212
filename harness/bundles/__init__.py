"""What is inside an app, a package or a disk image, without a Mac; and where releases come from."""

from harness.bundles.app import AppBundle, SystemExtensionBundle, open_app
from harness.bundles.executables import Executable, Slice, read_executable
from harness.bundles.failures import BundleError

__all__ = [
    "AppBundle",
    "BundleError",
    "Executable",
    "Slice",
    "SystemExtensionBundle",
    "open_app",
    "read_executable",
]
