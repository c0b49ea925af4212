"""App files: what is known of the product under test, and its releases."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from harness.config.tables import Table, check_keys, nearest, read_toml, validated
from harness.errors import UsageError

ExtensionKind = Literal[
    "transparent-proxy", "app-proxy", "content-filter", "vpn", "dns-proxy", "endpoint-security", "driver"
]
ConsentKind = Literal["approval", "proxy-configuration", "vpn-configuration", "filter-configuration"]


class Release(Table):
    """One build of the app.

    Attributes:
        version: The name it goes by ("0.11.5"); need not be the bundle's own version.
        source: `pypi:NAME==VERSION`, an https URL (then `sha256` is required), or a path or glob relative to the app file.
        pkg: The package it is shipped as: a path or glob relative to the app file. Without one, it is built on the Mac.
        rebuild_of: The release that has the same versions in its files and other content: what macOS takes for the same.
    """

    version: str
    source: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    pkg: str | None = None
    rebuild_of: str | None = None


class ExtensionSpec(Table):
    """The system extension inside the app."""

    id: str
    kind: ExtensionKind


class LaunchSpec(Table):
    """How the app is started so that it asks for activation.

    Attributes:
        how: `exec` runs the bundle's executable and sees its exit code; `open` goes through Launch Services.
        arguments: `{pid}` and `{token}` are replaced by fresh values.
        exits: Whether the app ends by itself once it is done (then its exit code counts).
    """

    how: Literal["exec", "open"] = "open"
    arguments: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    exits: bool = False
    success_codes: list[int] = Field(default_factory=lambda: [0])


class FunctionCheck(Table):
    """A command in the guest that succeeds when the product works."""

    name: str
    command: list[str] = Field(min_length=1)
    expect_exit: int = 0
    expect_output: str | None = None
    """A regular expression that must be found in its output."""
    sudo: bool = False


class UpdaterSpec(Table):
    """The app's own updater, as a command in the guest.

    Attributes:
        command: `{app}`: the installed app, `{new}`: the new one, `{pid}`: the running app or 0. Empty: quit, move aside, move in.
        sudo: Run it as root.
    """

    command: list[str] = Field(default_factory=list)
    sudo: bool = False


class TrafficSpec(Table):
    """How to see that traffic passes through the extension. Tried before anything is activated: a Mac that has no network by
    itself proves nothing.

    Attributes:
        command: A command in the guest that causes traffic and succeeds when it got through (`curl …`).
        expect_output: A regular expression that must be found in its output.
        count_command: Prints what the extension has counted: the last whole number in its output must rise.
        count_pattern: A regular expression with one group, the number, where it is not simply the last one.
        sudo: Run `count_command` as root.
    """

    command: list[str] = Field(min_length=1)
    expect_output: str | None = None
    count_command: list[str] = Field(default_factory=list)
    count_pattern: str | None = None
    sudo: bool = False


class AppFile(Table):
    """The product under test."""

    not_written: ClassVar[frozenset[str]] = frozenset({"path"})

    name: str
    """The app's name as people and prompts see it, and its file name without `.app`."""
    bundle_id: str
    team: str | None = None
    developer: str | None = None
    """The developer's name as the signing certificate has it: some releases of macOS list it instead of the app's name."""
    extension: ExtensionSpec
    releases: list[Release] = Field(min_length=1)
    launch: LaunchSpec = Field(default_factory=LaunchSpec)
    consents: list[ConsentKind] = Field(default=["approval"])
    configuration: str | None = None
    """The name of the network configuration the app saves, as `scutil --nc list` shows it."""
    log_subsystems: list[str] = Field(default_factory=list)
    checks: list[FunctionCheck] = Field(default_factory=list)
    updater: UpdaterSpec = Field(default_factory=UpdaterSpec)
    traffic: TrafficSpec | None = None
    deactivate: list[str] = Field(default_factory=list)
    """Arguments with which the app asks for its extension's deactivation and ends, if it can: a rung of the recovery ladder."""
    companions: list[Path] = Field(default_factory=list)
    """App files of other products, relative to this one: installed and approved first where a scenario wants company."""
    resolves: list[str] = Field(default=["captive.apple.com", "www.apple.com"], min_length=1)
    """Host names that must resolve on a Mac with this extension: for a DNS proxy."""
    quarantine: bool = False
    """Set com.apple.quarantine on install, as a browser download would have it."""
    path: Path = Path()
    """Where the app file was read from (set by `load_app`)."""

    @field_validator("releases")
    @classmethod
    def _distinct(cls, releases: list[Release]) -> list[Release]:
        names = [release.version for release in releases]
        if len(set(names)) != len(names):
            raise ValueError("each release has its own version")
        for release in releases:
            if release.rebuild_of is not None and (
                release.rebuild_of not in names or release.rebuild_of == release.version
            ):
                raise ValueError(f"rebuild_of of {release.version} names another release of this file")
        return releases

    def companion_files(self) -> list[Path]:
        """Where the app files of the companions are."""
        return [self.path.parent / companion for companion in self.companions]

    def release(self, version: str | None = None) -> Release:
        """The release of that version, or the last one listed (the newest) for None.

        Raises:
            UsageError: There is none; names the nearest.
        """
        if version is None:
            return self.releases[-1]
        for release in self.releases:
            if release.version == version:
                return release
        known = [release.version for release in self.releases]
        raise UsageError(
            f"release {version} in {self.path}", seen=f"it lists {', '.join(known)}", hint=nearest(version, known)
        )


def load_app(path: Path) -> AppFile:
    """Read an app file.

    Raises:
        UsageError: It is missing, not TOML, or says something unknown or wrong.
    """
    data = read_toml(path)
    check_keys(data, AppFile, str(path))
    return validated(AppFile, {**data, "path": path.resolve()}, str(path))
