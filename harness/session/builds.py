"""Which build was on the Mac: told in the event stream, so that a history row is of that very build and of no other."""

from __future__ import annotations

from harness import events
from harness.bundles.app import AppBundle
from harness.bundles.executables import Executable
from harness.config import AppFile
from harness.errors import UsageError

FIRST_ARCH = "arm64"
"""The slice that Macs under test run; the others are of the same build."""


def tell_build(bundle: AppBundle, app: AppFile, release: str) -> None:
    """Tell cdhash and LC_UUID of the app and of its extension, one `app build` event each.

    An extension that is not there is told as well, and raises nothing: whoever needs it says so.

    Args:
        bundle: The release, on the host.
        app: The app file: of the product under test, or of another one beside it.
        release: What that file calls it.
    """
    _tell("app", bundle.identifier, bundle.executable, app, release)
    try:
        extension = bundle.require_extension(app.extension.id)
    except UsageError as error:
        events.event("degraded", what=f"the build of the extension in {release} is not known", reason=str(error))
        return
    _tell("extension", extension.identifier, extension.executable, app, release)


def _tell(part: str, identifier: str, executable: Executable, app: AppFile, release: str) -> None:
    slices = sorted(executable.slices, key=lambda one: one.arch != FIRST_ARCH)  # stable: the file's order otherwise
    events.event(
        "app build",
        app=app.name,
        part=part,
        release=release,
        identifier=identifier,
        arch=slices[0].arch if slices else "",
        cdhash=slices[0].cdhash if slices else "",
        uuid=slices[0].uuid if slices else "",
        cdhashes=executable.cdhashes,
        uuids=executable.uuids,
    )
