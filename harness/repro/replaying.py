"""The same scenario once more, as its case file says it was run: node id, macOS, image by digest, release, settings, faults.

    replay = plan_replay(read_case(path), host, root=Path.cwd(), changes=Changes())
    replay.differences            # all that is not as it was, and why
    run = replay.write(folder)    # settings in a file of their own; the command

Two kinds of settings: what decides about the scenario comes from the case (time limits, delays, faults, evidence, the Mac's
hardware); what belongs to this host stays this host's (paths, executables, secrets). A case file is untrusted: nothing in it
becomes a program, a path to read, or an option of a command.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from harness import __version__
from harness.config import ENV_PREFIX, AppFile, Settings, load_app
from harness.errors import SysextError, UsageError
from harness.repro.cases import Recorded
from harness.repro.writing import write_toml
from harness.waiting import timeout_factor

OF_THIS_HOST: Final = (
    *("app", "artifacts", "cache", "keep_vm", "known_issues", "remember_readings", "history", "this_mac", "image"),
    *("tart.executable", "tart.home", "tart.slots", "tart.images", "tart.run_arguments"),
    *("simulated.executable", "simulated.home", "simulated.slots"),
    *("guest.key", "guest.password", "screen.pages", "screen.reader", "screen.needles"),
)
"""Settings that a replay does not take from the case."""
_TOLD: Final = ("tart.run_arguments", "screen.reader")
"""Those of them whose difference may matter, so that it is told."""
_NOT_COMPARED: Final = ("artifacts", "keep_vm", "cache", "app")
_SECRET: Final = {"guest.password": "SYSEXT_GUEST__PASSWORD"}
_MACOS = re.compile(r"\[macos(\d+)")
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was in the run which is replayed.

    Attributes:
        asked: The user wants it so.
    """

    what: str
    was: str
    now: str
    why: str = ""
    asked: bool = False

    def __str__(self) -> str:
        reason = f" ({self.why})" if self.why else ""
        return f"{self.what}: was {self.was or 'not told'}, now {self.now or 'none'}{reason}"


@dataclass(frozen=True)
class Changes:
    """What the user wants to be different; None: as it was."""

    release: str | None = None
    macos: str | None = None
    provider: str | None = None
    image: str | None = None
    app: Path | None = None


@dataclass
class Replay:
    """A run to be made.

    Attributes:
        nodeid: pytest's, relative to `root`.
        table: The settings, as nested tables; secrets are not among them.
        secrets: Environment variables with those.
    """

    recorded: Recorded
    root: Path
    nodeid: str
    release: str
    app: AppFile
    table: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    differences: list[Difference] = field(default_factory=list)

    def command(self, config: Path, artifacts: Path, *, keep: str = "first") -> list[str]:
        """The pytest command, without the program before it. `keep`: of failed Macs `none`, `first` or `all`."""
        arguments = ["-m", "pytest", self.nodeid, "--sysext-config", str(config), "--sysext-artifacts", str(artifacts)]
        # Options win over settings, also those that the project's own `addopts` has: so what matters most is said here as well.
        said = [option for option in ("provider", "image", "lane", "app") if self.table.get(option)]
        arguments += [f"--sysext-{option}={self.table[option]}" for option in said]
        arguments += [f"--sysext-macos={','.join(self.table['macos'])}", "--sysext-repeat=1"]
        return [*arguments, f"--sysext-release={self.release}", "--sysext-keep", keep, "--timeout", "7200"]

    def overridden(self, settings: Mapping[str, Any]) -> list[Difference]:
        """Where the run that was made had other settings than these: the project's `addopts` may say what it likes.

        Args:
            settings: Of the new case file.
        """
        planned = _leaves(Settings.model_validate(self.table).model_dump(mode="json"))
        made = _leaves(settings)
        return [
            Difference(name, str(value), str(made[name]), "an option of pytest, in addopts or PYTEST_ADDOPTS?")
            for name, value in planned.items()
            if name in made and name not in _NOT_COMPARED and made[name] != value and "***" not in str(made[name])
        ]

    def shown(self, config: Path, artifacts: Path, *, keep: str = "first") -> str:
        """The same, to be copied into a shell."""
        return shlex.join(["python", *self.command(config, artifacts, keep=keep)])

    def write(self, path: Path) -> Path:
        """Write the settings into a file.

        Raises:
            EnvironmentFailure: It cannot be written.
        """
        place = "".join(char if char.isprintable() else " " for char in self.recorded.place)
        comment = f"Settings of a replay of {place}\nAs that run had them, but for what belongs to this host."
        return write_toml(path, self.table, comment)

    def environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the run: no variable there overrides a setting that is the case's."""
        environ = os.environ if environ is None else environ
        own = {f"{ENV_PREFIX}{dotted.upper().replace('.', '__')}" for dotted in OF_THIS_HOST}
        kept = {
            name: value
            for name, value in environ.items()
            if not name.startswith(ENV_PREFIX)
            or name.startswith(("SYSEXT_SIM_", "SYSEXT_TIMEOUT_FACTOR"))
            or any(name == one or name.startswith(f"{one}__") for one in own)
        }
        for name in ("SYSEXT_IMAGE", "SYSEXT_APP", "SYSEXT_KEEP_VM", "SYSEXT_ARTIFACTS"):
            kept.pop(name, None)
        kept.pop("SYSEXT_HISTORY__RECORD", None)
        return {**kept, **self.secrets}


def plan_replay(recorded: Recorded, host: Settings, *, root: Path, changes: Changes | None = None) -> Replay:
    """How to run a recorded scenario again on this host.

    Args:
        recorded: From `read_case`.
        host: This host's settings: those in `OF_THIS_HOST` are taken from them.
        root: pytest's root folder, where the scenarios are.
        changes: What the user wants to be different.

    Raises:
        UsageError: The case does not say enough, or this checkout has no such scenario, app or release.
    """
    changes = changes or Changes()
    differences: list[Difference] = []
    macos, provider = _text(recorded, "macos"), _text(recorded, "provider")
    nodeid = _nodeid(recorded, host, root)
    table = _settings(recorded, host, differences)
    if changes.provider is not None and changes.provider != provider:
        differences.append(Difference("provider", provider, changes.provider, asked=True))
        provider = changes.provider
        _drop_faults(table, provider, differences)
    if changes.macos is not None and changes.macos != macos:
        nodeid, changed = _MACOS.subn(f"[macos{changes.macos}", nodeid, count=1)
        if not changed:
            raise UsageError("a scenario with one test per macOS version", seen=nodeid, hint="leave --macos out")
        differences.append(Difference("macOS", macos, changes.macos, asked=True))
        macos = changes.macos
    app = _app(recorded, changes, host, root, differences)
    tested = recorded.text("release_under_test") or _text(recorded, "release")
    release = changes.release or tested
    app.release(release)
    if release != tested:
        differences.append(Difference("release", tested, release, asked=True))
    if recorded.used:
        differences.append(
            Difference(
                "Mac", f"{recorded.machine}, used by earlier cycles", "a fresh one", "what they left on it is not there"
            )
        )
    table |= {"provider": provider, "macos": [macos], "app": str(app.path), "keep_vm": False}
    table["image"] = _image(recorded, changes, host, provider, macos, differences)
    table["history"] = {
        "record": False
    }  # a run that is chosen for how it ended says nothing about how often it ends so
    if provider == "simulated":
        key = recorded.run_key or f"{recorded.text('nodeid')}|{recorded.header.get('attempt', 1)}"
        table["simulated"] = {**table.get("simulated", {}), "run_key": key}
    _usable(table, recorded)
    _tell_versions(recorded, differences)
    return Replay(
        recorded=recorded,
        root=root,
        nodeid=nodeid,
        release=release,
        app=app,
        table=table,
        secrets=_secrets(host),
        differences=differences,
    )


def check_image(replay: Replay, host: Settings) -> None:
    """Ask the provider for the image; where it cannot be had by its digest, take it by its name, and tell that.

    Raises:
        UsageError: It cannot be had by its name either.
    """
    from harness.machines import provider_for

    image = str(replay.table["image"] or "")
    if "@sha256:" not in image:
        return
    settings = host.model_copy(update={"provider": replay.table["provider"]})
    provider = provider_for(settings)
    try:
        provider.check(image)
    except SysextError as error:
        named = replay.recorded.text("image")
        if named == image:
            raise
        provider.check(named)  # no `tart` at all, no network: then it is not the digest's fault
        replay.table["image"] = named
        reason = f"it cannot be had by its digest any more: {error.seen or error.expected}"[:300]
        replay.differences.append(Difference("image", image, named, reason))


def _text(recorded: Recorded, key: str) -> str:
    text = recorded.text(key)
    if not text or text.startswith("-") or len(text) > 2000 or not text.isprintable():
        raise UsageError(
            f"'{key}' in the header of {recorded.place}", seen=repr(text)[:100], hint="is it the stream of a scenario?"
        )
    return text


def _nodeid(recorded: Recorded, host: Settings, root: Path) -> str:
    """The node id without its cycle, of a scenario that this checkout has. pytest runs the file that it names, so that must be a
    file of tests, and none that came with the case.
    """
    nodeid = _text(recorded, "nodeid")
    name, colons, test = nodeid.partition("::")
    path = PurePosixPath(name)
    here = root / name
    if not colons or not test or path.is_absolute() or ".." in path.parts or name.startswith("@"):
        raise UsageError(
            f"a scenario's node id in {recorded.place}", seen=nodeid, hint="is it the stream of a scenario?"
        )
    if not here.is_file():
        raise UsageError(
            f"the scenario's file {name} below {root}",
            seen="no such file",
            hint="run this in a checkout of the project at the commit of that run, or give --root",
        )
    if not _of_checkout(here, recorded, host, root) or not (
        path.parts[0] == "scenarios" or re.fullmatch(r"test_.*\.py|.*_test\.py", path.name)
    ):
        raise UsageError(
            f"a scenario of this checkout in {recorded.place}",
            seen=f"{name}, which is no file of tests or lies with case files; it would be run",
            hint="keep case files in a folder of their own (artifacts), apart from the scenarios",
        )
    return re.sub(r"-?cycle\d+(?=[-\]])", "", nodeid).replace("[-", "[").removesuffix("[]")


def _of_checkout(path: Path, recorded: Recorded, host: Settings, root: Path) -> bool:
    """Whether a file below the root belongs to the checkout: not to a hidden folder, to case files, or to the folder that a
    downloaded artifact was unpacked into: what comes with a case may have been written by anybody.
    """
    parts = path.relative_to(root).parts
    if ".." in parts or any(part.startswith(".") for part in parts):
        return False
    real, top = path.resolve(), root.resolve()
    artifacts = (root / host.artifacts).resolve()
    if any(real.is_relative_to(folder) for folder in (artifacts, host.artifacts.resolve(), host.cache_dir.resolve())):
        return False
    if recorded.folder is None or recorded.folder.resolve().is_relative_to(artifacts):
        return True
    common = Path(os.path.commonpath([real.parent, recorded.folder.resolve()]))
    return common == top or not common.is_relative_to(top)


def _settings(recorded: Recorded, host: Settings, differences: list[Difference]) -> dict[str, Any]:
    """The case's settings with this host's put into their places, checked as a whole."""
    if not recorded.settings:
        raise UsageError(
            f"the settings in the header of {recorded.place}",
            seen="none",
            hint="an old version of this program wrote it",
        )
    table = _known(recorded.settings, Settings.model_json_schema(), differences)
    whole, own = host.model_dump(mode="json"), host.model_dump(mode="json", exclude_unset=True)
    for dotted in OF_THIS_HOST:
        was, now = _get(table, dotted), _get(whole, dotted)
        if dotted in _TOLD and was is not _ABSENT and was != now:
            differences.append(Difference(dotted, str(was), str(now), "belongs to this host"))
        _put(table, dotted, _ABSENT if dotted in _SECRET else _get(own, dotted))
    _usable(table, recorded)
    return table


def _usable(table: Mapping[str, Any], recorded: Recorded) -> None:
    try:
        Settings.model_validate(table)
    except ValueError as error:
        first = str(error).splitlines()
        raise UsageError(
            f"usable settings in {recorded.place}",
            seen=" ".join(first[1:3])[:300],
            hint="is it the stream of a scenario?",
        ) from error


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table's values by dotted name."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _known(table: Mapping[str, Any], schema: Mapping[str, Any], differences: list[Difference]) -> dict[str, Any]:
    """Without what this version does not know (told)."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})

    def walk(values: Mapping[str, Any], model: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in values.items():
            field_schema = model.get("properties", {}).get(key)
            if field_schema is None:
                differences.append(Difference(f"setting {prefix}{key}"[:80], repr(value)[:80], "", "not known here"))
                continue
            inner = definitions.get(str(field_schema.get("$ref", "")).rpartition("/")[2])
            is_table = inner is not None and isinstance(value, Mapping)
            kept[key] = walk(value, inner or {}, f"{prefix}{key}.") if is_table else value
        return kept

    return walk(table, schema, "")


def _drop_faults(table: dict[str, Any], provider: str, differences: list[Difference]) -> None:
    faults = _get(table, "simulated.faults")
    if provider != "simulated" and isinstance(faults, list) and faults:
        _put(table, "simulated.faults", [])
        differences.append(Difference("faults", ", ".join(map(str, faults)), "", "only simulated Macs have them"))


def _app(recorded: Recorded, changes: Changes, host: Settings, root: Path, differences: list[Difference]) -> AppFile:
    """The app file: the one asked for, else the one with the same content, else the one of the same name."""
    told = recorded.header.get("app_file")
    was = told if isinstance(told, dict) else {}
    before, digest = str(was.get("path") or recorded.settings.get("app") or ""), str(was.get("sha256") or "")
    if changes.app is not None:
        found: Path | None = changes.app
    else:
        found = _same_app(PurePosixPath(before), digest, recorded, host, root)
    if found is None:
        raise UsageError(
            f"the app file {PurePosixPath(before).name or 'of that run'} below {root}",
            seen=f"none of that name or content (it was {before or 'not told'})",
            hint="give --app FILE",
        )
    app = load_app(found)
    now = _digest(found)
    if not digest:
        differences.append(
            Difference("app file", before, str(found), "its content was not recorded", changes.app is not None)
        )
    elif digest != now:
        differences.append(
            Difference("app file", f"sha256 {digest[:12]}…", f"{found}, sha256 {now[:12]}…", "its content differs")
        )
    return app


def _same_app(before: PurePosixPath, digest: str, recorded: Recorded, host: Settings, root: Path) -> Path | None:
    named = [root.joinpath(*before.parts[-depth:]) for depth in (4, 3, 2, 1) if len(before.parts) > depth]
    named = [path for path in named if path.is_relative_to(root) and _of_checkout(path, recorded, host, root)]
    candidates = [
        *named,
        *([host.app] if host.app is not None else []),
        *sorted((root / "scenarios" / "apps").glob("*.toml")),
    ]
    there = [path for path in candidates if path.is_file()]
    same = [path for path in there if digest and _digest(path) == digest]
    alike = [path for path in there if path.name == before.name]
    return next(iter([*same, *alike]), None)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _image(
    recorded: Recorded,
    changes: Changes,
    host: Settings,
    provider: str,
    macos: str,
    differences: list[Difference],
) -> str | None:
    """What to clone: by digest where that is known and still fits."""
    was = recorded.text("image")
    if provider == "this-mac":
        return None
    if changes.image is not None:
        differences.append(Difference("image", recorded.image_digest or was, changes.image, asked=True))
        return changes.image
    if changes.macos is not None or changes.provider is not None:
        image = host.model_copy(update={"provider": provider, "image": None}).image_for(macos)
        if image != was:
            differences.append(Difference("image", recorded.image_digest or was, image, "follows from the change"))
        return image
    _text(recorded, "image")
    if provider == "tart" and _named(was) not in {_named(image) for image in host.tart.images.values()}:
        raise UsageError(
            f"an image that this host's settings name (tart.images) in {recorded.place}",
            seen=was,
            hint=f"if you trust it: --image {shlex.quote(recorded.image_digest or was)}",
        )
    if not recorded.image_digest:
        differences.append(
            Difference("image", was, was, "only its name is known, and it may hold another system today")
        )
        return was
    if not re.fullmatch(r"[A-Za-z0-9][^\s@]{0,400}@sha256:[0-9a-f]{64}", recorded.image_digest):
        raise UsageError(f"an image's digest in {recorded.place}", seen=recorded.image_digest[:100])
    if provider == "tart" and _named(recorded.image_digest) != _named(was):
        raise UsageError(
            f"one image in {recorded.place}", seen=f"{was}, and the digest of {recorded.image_digest}"[:300]
        )
    return recorded.image_digest


def _named(image: str) -> str:
    """An image's name without tag and digest."""
    name = image.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _tell_versions(recorded: Recorded, differences: list[Difference]) -> None:
    version = recorded.text("harness")
    if version and version != __version__:
        differences.append(Difference("sysext-harness", version, __version__))
    factor = recorded.header.get("timeout_factor")
    if isinstance(factor, int | float) and factor != timeout_factor():
        differences.append(
            Difference("SYSEXT_TIMEOUT_FACTOR", f"{factor:g}", f"{timeout_factor():g}", "belongs to this host")
        )


def _secrets(host: Settings) -> dict[str, str]:
    password = host.guest.password.get_secret_value()
    return {_SECRET["guest.password"]: password} if password != Settings().guest.password.get_secret_value() else {}


def _get(table: Mapping[str, Any], dotted: str) -> Any:
    value: Any = table
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _put(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted name, or remove it (`_ABSENT`, None)."""
    *parents, last = dotted.split(".")
    for part in parents:
        inner = table.get(part)
        table[part] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        table = inner
    if value is _ABSENT or value is None:
        table.pop(last, None)
    else:
        table[last] = value


def interpreter() -> str:
    """The Python that runs pytest here."""
    return sys.executable


def same_outcome(recorded: Recorded, verdict: object, cause: str) -> bool:
    """Whether a replay came to the same: verdict, and cause where one was named."""
    return verdict is recorded.verdict and (not recorded.cause or not cause or cause == recorded.cause)


def told_differences(differences: Sequence[Difference]) -> list[str]:
    """Lines for people: what was asked for first."""
    asked = [f"changed as asked: {one}" for one in differences if one.asked]
    return asked + [f"differs: {one}" for one in differences if not one.asked]
