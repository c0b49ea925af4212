"""The releases between a good one and a bad one, and an app file that lists just those."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import AppFile, Release
from harness.errors import UsageError
from harness.repro.writing import app_table, write_toml

Registry = Callable[[str], list[str]]
"""A package's name to all its versions, oldest first."""
_PYPI = re.compile(r"pypi:([A-Za-z0-9][A-Za-z0-9._-]*)==(.+)")


@dataclass(frozen=True)
class Chain:
    """Releases to bisect.

    Attributes:
        releases: Oldest first: good … bad.
        before: The one before the good one, which an upgrade to that comes from; None if none is known.
        origin: Where the list is from, for people.
        listed: All of them are in the app file, in a row: it can be used as it is.
    """

    releases: tuple[Release, ...]
    before: Release | None
    origin: str
    listed: bool

    @property
    def names(self) -> list[str]:
        """Their versions."""
        return [release.version for release in self.releases]

    def write(self, app: AppFile, path: Path) -> Path:
        """An app file with these releases only.

        Raises:
            EnvironmentFailure: It cannot be written.
        """
        releases = [*([self.before] if self.before is not None else []), *self.releases]
        return write_toml(
            path, app_table(app, releases), f"{app.name}: the releases of a bisection, from {self.origin}"
        )


def make_chain(
    app: AppFile, good: str, bad: str, *, named: Sequence[str] = (), registry: Registry | None = None
) -> Chain:
    """The releases from `good` to `bad`.

    By the names given; else by the app file, where that has both ends and something between; else by the registry that the app
    file's own sources (`pypi:NAME==VERSION`) come from; else these two alone.

    Args:
        app: The app file.
        good: The last one known as good.
        bad: One known as bad.
        named: All of them, oldest first; the ends may be left out.
        registry: Asked at most once.

    Raises:
        UsageError: Not that order, or an end that nobody knows; or a name without a source.
        EnvironmentFailure: The registry cannot be asked.
    """
    if good == bad:
        raise UsageError("two different releases", seen=f"{good!r} twice", hint="--good is older than --bad")
    if named:
        inner = [name for name in named if name not in (good, bad)]
        names = [good, *inner, bad]
        if len(set(names)) != len(names):
            raise UsageError("each release once in --release-list", seen=", ".join(named), hint="leave one of them out")
        _ordered(list(named), good, bad, "--release-list")
        return Chain(
            tuple(_release(app, name) for name in names), _before(app, good, None), "--release-list", listed=False
        )
    known = [release.version for release in app.releases]
    place = {name: known.index(name) for name in (good, bad) if name in known}
    if len(place) == 2:
        _ordered(known, good, bad, app.path.name)
        between = app.releases[place[good] : place[bad] + 1]
        if len(between) > 2 or _package(app) is None or registry is None:
            before = app.releases[place[good] - 1] if place[good] else None
            return Chain(tuple(between), before, app.path.name, listed=True)
    package = _package(app)
    if package is None or registry is None:
        missing = next(name for name in (good, bad) if name not in place)
        raise UsageError(
            f"release {missing} in {app.path}",
            seen=f"it lists {', '.join(known)}",
            hint="add it there, with its source",
        )
    versions = registry(package)
    for name in (good, bad):
        if name not in versions and name not in known:
            raise UsageError(
                f"release {name} of {package}",
                seen=f"there are {', '.join(versions[-12:])}",
                hint=f"check the name; the app file lists {', '.join(known)}",
            )
    if any(name not in versions for name in (good, bad)):
        raise UsageError(
            f"{good} and {bad} among the releases of {package}",
            seen=f"there are {', '.join(versions[-12:])}",
            hint="name those between: --release-list A,B,C",
        )
    _ordered(versions, good, bad, package)
    names = versions[versions.index(good) : versions.index(bad) + 1]
    return Chain(
        tuple(_release(app, name) for name in names),
        _before(app, good, versions),
        f"all versions of {package}",
        listed=False,
    )


def _ordered(names: list[str], good: str, bad: str, where: str) -> None:
    if good in names and bad in names and names.index(good) > names.index(bad):
        raise UsageError(f"--good older than --bad in {where}", seen=f"{bad} comes before {good}", hint="swap them")


def _package(app: AppFile) -> str | None:
    """The package that all releases of the app file come from, if it is one."""
    matches = [_PYPI.fullmatch(release.source) for release in app.releases]
    packages = {match[1] for match in matches if match is not None}
    return packages.pop() if len(packages) == 1 and all(matches) else None


def _release(app: AppFile, name: str) -> Release:
    for release in app.releases:
        if release.version == name:
            return release
    package = _package(app)
    if package is None:
        raise UsageError(
            f"a source of release {name}", seen=f"{app.path.name} does not list it", hint="add it to the app file"
        )
    return Release(version=name, source=f"pypi:{package}=={name}")


def _before(app: AppFile, good: str, versions: list[str] | None) -> Release | None:
    known = [release.version for release in app.releases]
    if good in known and known.index(good):
        return app.releases[known.index(good) - 1]
    if versions is not None and versions.index(good):
        return _release(app, versions[versions.index(good) - 1])
    return None
