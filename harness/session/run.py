"""One pytest run: settings, app, provider, where its case files go. Made once per process from pytest's options."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__, events
from harness.config import AppFile, Settings, load_app, load_settings
from harness.errors import EnvironmentFailure, UsageError
from harness.session.case import Case, slug
from harness.triage.known_issues import KnownIssues, load_known_issues
from harness.waiting import timeout_factor

if TYPE_CHECKING:
    from harness.machines import Provider
    from harness.screen import Reader


@dataclass
class Run:
    """What all scenarios of a run share.

    Attributes:
        folder: `artifacts/<time>-<pid>`: one case file per scenario in it, and `live.log`.
    """

    settings: Settings
    app: AppFile
    provider: Provider
    folder: Path
    release: str | None = None
    known_issues: KnownIssues = field(default_factory=KnownIssues)
    _reader: Reader | None = field(default=None, repr=False)

    @property
    def reader(self) -> Reader:
        """The text reader, one per process (its models are loaded once)."""
        if self._reader is None:
            from harness.screen.readers import make_reader

            self._reader = make_reader(self.settings)
        return self._reader

    @cached_property
    def app_sha256(self) -> str:
        """Of the app file's bytes, as they are when the first scenario starts; "" if it cannot be read any more."""
        try:
            return hashlib.sha256(self.app.path.read_bytes()).hexdigest()
        except OSError:
            return ""

    def open_case(
        self,
        *,
        scenario: str,
        nodeid: str,
        macos: str,
        attempt: int,
        failed_before: bool,
        release: str | None = None,
    ) -> Case:
        """Make the case file of one attempt. `release` is the one that it proves something about, where that is not the one under
        test.
        """
        from harness.evidence import CaseFolder

        name = slug([scenario[:90], f"macos{macos}"] + ([f"attempt{attempt}"] if attempt > 1 else []))
        folder = CaseFolder(claim(self.folder / name))
        started = datetime.now(UTC)
        log = events.EventLog(
            folder.events_path,
            started=started.isoformat(timespec="milliseconds"),
            case=f"{self.folder.name}/{folder.path.name}",
            host=platform.node(),
            scenario=scenario,
            nodeid=nodeid,
            macos=macos,
            attempt=attempt,
            provider=self.settings.provider,
            simulated=self.provider.simulated,
            lane=self.settings.lane,
            image=self.settings.image_for(macos),
            app=self.app.name,
            app_file={"path": str(self.app.path), "sha256": self.app_sha256},
            release=self.app.release(release or self.release).version,
            release_under_test=self.app.release(self.release).version,
            harness=__version__,
            timeout_factor=timeout_factor(),
            settings=self.settings.model_dump(mode="json"),
        )
        return Case(
            scenario=scenario,
            nodeid=nodeid,
            macos=macos,
            attempt=attempt,
            settings=self.settings,
            simulated=self.provider.simulated,
            image=self.settings.image_for(macos),
            release=self.app.release(release or self.release).version,
            folder=folder,
            log=log,
            artifacts=self.settings.artifacts,
            failed_before=failed_before,
            started=started,
        )


def open_run(overrides: Mapping[str, Any], *, config: Path | None, release: str | None, folder: Path | None) -> Run:
    """Settings → app file → provider. Starts and downloads nothing.

    Raises:
        UsageError: Anything the user gave that cannot be used.
    """
    from harness.machines import provider_for

    settings = load_settings(config, overrides=overrides)
    if settings.app is None:
        raise UsageError(
            "an app file: the product under test",
            seen="none given",
            hint="give --sysext-app scenarios/apps/mitmproxy.toml, set SYSEXT_APP, or `app` in sysext.toml",
        )
    app = load_app(settings.app)
    app.release(release)
    if settings.upgrades.paths:
        from harness.upgrades import cells

        cells(app, settings.macos, settings.upgrades.paths, latest=release)
    if settings.preflight.off:
        from harness.session.preflight import check_settings

        check_settings(settings)
    for macos in settings.macos:
        settings.image_for(macos)
    named = "known_issues" in settings.model_fields_set  # else it is the default folder, which need not be there
    known = load_known_issues(settings.known_issues if named else (), optional=() if named else settings.known_issues)
    return Run(
        settings, app, provider_for(settings), folder or new_run_folder(settings.artifacts.absolute()), release, known
    )


def prepare(run: Run) -> None:
    """What must be right before the first Mac boots: the images exist, the releases can be had and hold the extension, and
    a Mac may run on this host at all.

    Raises:
        UsageError: One of these is not so.
    """
    from harness.bundles.releases import fetch_release
    from harness.waiting import Deadline

    try:
        for macos in run.settings.macos:
            run.provider.check(run.settings.image_for(macos))
        place = run.app.releases.index(run.app.release(run.release))
        for release in run.app.releases[max(0, place - 1) : place + 1]:  # with the one before it: that is upgraded from
            fetch_release(release, run.app, run.settings.cache_dir).require_extension(run.app.extension.id)
        run.provider.wait_for_slot(Deadline.after(run.settings.timeouts.slot))
    except OSError as error:
        cache = run.settings.cache_dir
        raise UsageError(
            f"a folder at {cache} for downloads and locks, that can be written to",
            seen=str(error),
            hint="set `cache` to another place, or free some space",
        ) from error
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"a folder for the case files at {run.folder}",
            seen=str(error),
            hint="give --sysext-artifacts a place that can be written to",
        ) from error


def new_run_folder(artifacts: Path) -> Path:
    """A fresh folder name below `artifacts`, sortable by time."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    return unused(artifacts / f"{stamp}-{os.getpid()}")


def claim(path: Path) -> Path:
    """Make the folder `path`, or the first of path-2, path-3, … that is not there yet; two processes never get the same.

    Raises:
        EnvironmentFailure: It cannot be made on this host.
    """
    candidate = path
    number = 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                candidate.mkdir()
                return candidate
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
    except OSError as error:
        raise EnvironmentFailure(
            f"a case file at {candidate}", seen=str(error), hint="is this host's disk full, or the folder read-only?"
        ) from error


def unused(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, … that does not exist."""
    candidate = path
    number = 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
