"""Where releases come from: PyPI, an https address, a file beside the app file. Each is fetched once, checked against
the app file, and kept unpacked in a cache that several processes share.

Cache:  apps/<sha256 of what was fetched>-<name>/<Name>.app   what it became
        sources/<hash of the source's text>.json              which content a source had (only for sources that never
                                                              change: a pinned version, an address with its sha256)
        locks/<hash>.lock                                     one fetch at a time
Everything is made in a temporary folder beside it and renamed into place: a failure leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO

from harness.bundles.app import AppBundle, open_app
from harness.bundles.oddities import ODDITIES, unpack_noting
from harness.config import AppFile, Release
from harness.errors import EnvironmentFailure, UsageError, Verdict
from harness.events import Step, step
from harness.waiting import Deadline, wait_until

DEFAULT_SECONDS = 1800.0
MAX_DOWNLOAD = 8 * 1024**3
CHUNK = 1024 * 1024
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})==([A-Za-z0-9][A-Za-z0-9.+!_-]{0,63})$")
_GONE = re.compile(r"No matching distribution|Could not find a version|Invalid requirement", re.IGNORECASE)
_OFFLINE = re.compile(r"Connection|timed out|Name or service|resolve|Retrying|SSLError|ProxyError|HTTP error 5", re.I)


@dataclass(frozen=True)
class _Wanted:
    """What is fetched, and how errors name it and where it comes from."""

    what: str
    source: str
    sha256: str | None
    app_name: str | None
    base: Path
    origin: str
    check: Callable[[AppBundle], None]


def fetch_release(
    release: Release, app: AppFile, cache: Path, *, deadline: Deadline | None = None, checked: bool = True
) -> AppBundle:
    """The release's app, unpacked in the cache and checked against the app file.

    Args:
        release: Which one.
        app: The app file: what it must be.
        cache: `Settings.cache_dir`; made if missing.
        deadline: For the download and for waiting for another process that fetches the same; 30 minutes by default.
        checked: Refuse what is not as the app file says; without, only its name must fit (to look at old releases).

    Raises:
        UsageError: There is no such release, it is damaged, or it is another app than the app file says.
        EnvironmentFailure: The network, or the host's disk.
        WaitTimeout: Another process has been fetching the same for too long.
    """

    def check(bundle: AppBundle) -> None:
        if checked:
            check_release(bundle, app, release)

    origin = app.path.name or "the app file"
    wanted = _Wanted(
        f"{app.name} {release.version}", release.source, release.sha256, app.name, app.path.parent, origin, check
    )
    with step("fetch release", app=app.name, version=release.version, source=release.source) as under_way:
        bundle = _fetch(wanted, cache, deadline, under_way)
        check(bundle)
        under_way.note(path=str(bundle.path), bundle_version=f"{bundle.short} ({bundle.build})")
    return bundle


def fetch_source(
    source: str,
    cache: Path,
    *,
    sha256: str | None = None,
    app_name: str | None = None,
    deadline: Deadline | None = None,
) -> AppBundle:
    """The app of a source that no app file tells about: `pypi:NAME==VERSION`, or an https address with its hash.

    Raises:
        UsageError: There is no such source, or no such app in it.
        EnvironmentFailure: The network, or the host's disk.
        WaitTimeout: Another process has been fetching the same for too long.
    """
    wanted = _Wanted(source, source, sha256, app_name, Path(), "the command", lambda _: None)
    with step("fetch", source=source) as under_way:
        return _fetch(wanted, cache, deadline, under_way)


def _fetch(wanted: _Wanted, cache: Path, deadline: Deadline | None, under_way: Step) -> AppBundle:
    deadline = deadline or Deadline.after(DEFAULT_SECONDS)
    for folder in ("apps", "sources", "locks"):
        (cache / folder).mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{wanted.source}\0{wanted.sha256 or ''}\0{wanted.app_name or ''}".encode()).hexdigest()[:32]
    with _locked(cache / "locks" / f"{key}.lock", deadline, what=wanted.what):
        return open_app(_cached_or_fetched(wanted, cache, key, deadline, under_way))


def check_release(bundle: AppBundle, app: AppFile, release: Release) -> None:
    """Whether a bundle is what the app file says.

    Raises:
        UsageError: Another bundle identifier, team, extension, or kind of extension.
    """
    where = f"{app.name} {release.version}"
    hint = f"correct {app.path.name or 'the app file'}, or its source {release.source}"
    if bundle.identifier != app.bundle_id:
        raise UsageError(f"{where} to be {app.bundle_id}", seen=f"it is {bundle.identifier}", hint=hint)
    if app.team is not None and bundle.team != app.team:
        raise UsageError(f"{where} to be signed by team {app.team}", seen=bundle.team or "no team", hint=hint)
    extension = bundle.require_extension(app.extension.id)
    if app.team is not None and extension.team != app.team:
        raise UsageError(
            f"the extension in {where} to be signed by team {app.team}", seen=extension.team or "no team", hint=hint
        )
    if extension.kinds and app.extension.kind not in extension.kinds:
        raise UsageError(
            f"{extension.identifier} in {where} to be of kind {app.extension.kind}",
            seen=" or ".join(extension.kinds),
            hint=hint,
        )


def _cached_or_fetched(wanted: _Wanted, cache: Path, key: str, deadline: Deadline, under_way: Step) -> Path:
    note = cache / "sources" / f"{key}.json"
    known = _remembered(note, cache)
    if known is not None:
        under_way.note(cached=True)
        return known
    under_way.note(cached=False)
    room = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache))
    try:
        artifact, lasting = _obtain(wanted, room, deadline)
        digest = _digest(artifact)
        if wanted.sha256 is not None and digest != wanted.sha256:
            raise UsageError(
                f"{wanted.source} to have sha256 {wanted.sha256}",
                seen=digest,
                hint="was the release replaced? find out why before correcting the app file",
            )
        name = re.sub(r"[^A-Za-z0-9._-]", "_", wanted.app_name or "")[:60] or "app"
        folder = cache / "apps" / f"{digest[:40]}-{name}"
        with _locked(cache / "locks" / f"{folder.name}.lock", deadline, what=wanted.what):
            path = next(iter(sorted(folder.glob("*.app"))), None) if folder.is_dir() else None
            if path is None:
                fresh = room / "unpacked"
                path, odd = unpack_noting(artifact, fresh, wanted.app_name, any_app=True)
                wanted.check(open_app(path))
                if odd:
                    (fresh / ODDITIES).write_text(json.dumps(odd), encoding="utf-8")
                if folder.exists():
                    shutil.rmtree(folder)
                os.replace(fresh, folder)  # noqa: PTH105 - the folder appears whole
                path = folder / path.name
        if lasting:
            fresh_note = room / "source.json"
            fresh_note.write_text(
                json.dumps({"source": wanted.source, "sha256": digest, "app": f"{folder.name}/{path.name}"}),
                encoding="utf-8",
            )
            os.replace(fresh_note, note)  # noqa: PTH105
        return path
    except OSError as error:
        raise EnvironmentFailure(
            f"room and rights to keep {wanted.what} in {cache}", seen=str(error), hint="check the disk"
        ) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _remembered(note: Path, cache: Path) -> Path | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        path = cache / "apps" / str(found["app"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if (path / "Contents" / "Info.plist").is_file() else None


def _obtain(wanted: _Wanted, room: Path, deadline: Deadline) -> tuple[Path, bool]:
    """The release's file, and whether its source can never give another."""
    source = wanted.source
    if source.startswith("pypi:"):
        return from_pypi(source.removeprefix("pypi:"), room, deadline), True
    scheme = urllib.parse.urlsplit(source).scheme
    if "://" in source:
        if scheme != "https":
            raise UsageError(
                f"an https address in {wanted.origin}", seen=source, hint="http and others are not taken, for safety"
            )
        if wanted.sha256 is None:
            raise UsageError(
                f"sha256 for {source}", seen="none", hint='add sha256 = "…" (shasum -a 256 FILE) to the release'
            )
        target = room / (Path(urllib.parse.urlsplit(source).path).name or "download")
        download(source, target, deadline)
        return target, True
    return _beside(source, wanted), False


def _beside(source: str, wanted: _Wanted) -> Path:
    base = wanted.base
    pattern = os.path.expanduser(source)  # noqa: PTH111 - a pattern, not a path
    full = pattern if os.path.isabs(pattern) else f"{glob.escape(str(base))}/{pattern}"  # noqa: PTH117
    found = sorted(Path(match) for match in glob.glob(full, recursive=True))  # noqa: PTH207
    if len(found) == 1:
        return found[0]
    seen = ", ".join(path.name for path in found[:6]) + (" …" if len(found) > 6 else "")
    raise UsageError(
        f"exactly one file for {source} (relative to {base})",
        seen=seen or "no such file",
        hint=f"correct source in {wanted.origin}",
    )


def from_pypi(requirement: str, room: Path, deadline: Deadline) -> Path:
    """The wheel NAME==VERSION for Macs, downloaded by pip into a folder of `room`.

    Raises:
        UsageError: There is no such release.
        EnvironmentFailure: The network, or no pip.
    """
    match = _REQUIREMENT.match(requirement)
    if match is None:
        raise UsageError("a source pypi:NAME==VERSION", seen=f"pypi:{requirement}", hint="pin one exact version")
    folder = room / "wheels"
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"),
        *("--no-input", "--quiet", "--ignore-requires-python", "--dest", str(folder)),
        # A wheel for Macs, whatever this host is; only its content counts, not whether this Python could import it.
        *("--platform", "macosx_26_0_arm64", "--platform", "macosx_26_0_x86_64"),
        requirement,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=deadline.remaining, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(
            f"pip to download {requirement}", seen=f"not within {deadline.seconds:g} s", hint="check the network"
        ) from None
    if done.returncode != 0:
        _explain_pip(requirement, done.stderr)
    files = [path for path in folder.iterdir() if path.suffix == ".whl"]
    if len(files) != 1:
        raise UsageError(f"one wheel of {requirement}", seen=", ".join(p.name for p in folder.iterdir()) or "nothing")
    return files[0]


def registry_versions(name: str, deadline: Deadline) -> list[str]:
    """Every final release of a package that has a wheel for Macs, oldest first, as pip's registry lists them.

    Raises:
        UsageError: There is no such package.
        EnvironmentFailure: The network, or a pip that cannot tell.
    """
    if not _REQUIREMENT.match(f"{name}==0"):
        raise UsageError("the name of a package", seen=repr(name)[:100], hint="correct the source pypi:NAME==VERSION")
    command = [
        *(sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check", "--no-input"),
        *("--only-binary=:all:", "--ignore-requires-python"),
        *("--platform", "macosx_26_0_arm64", "--platform", "macosx_26_0_x86_64"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=deadline.remaining, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(
            f"the versions of {name}", seen=f"not within {deadline.seconds:g} s", hint="check the network"
        ) from None
    if done.returncode != 0:
        _explain_pip(name, done.stderr)
    listed = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    versions = [part.strip() for part in listed.group(1).split(",")] if listed is not None else []
    fitting = [version for version in versions if _REQUIREMENT.match(f"{name}=={version}")]
    if not fitting:
        raise EnvironmentFailure(
            f"a list of the versions of {name} from pip", seen=done.stdout[:200] or "nothing", hint="name them yourself"
        )
    return fitting[::-1]


def _explain_pip(requirement: str, errors: str) -> None:
    text = re.sub(r"//[^/@\s]+@", "//***@", errors.strip())  # an index address may hold a password
    if "No module named pip" in text:
        raise EnvironmentFailure(
            f"pip for {sys.executable}", seen="no module named pip", hint=f"{sys.executable} -m ensurepip"
        )
    last = [line for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()[-3:]
    seen = " ".join(last)[-600:]
    if _GONE.search(text) and not _OFFLINE.search(text):
        if versions := re.search(r"from versions: ([^)]*)\)", text):
            seen = f"no such version; the last ones are {', '.join(versions.group(1).split(', ')[-6:])}"
        raise UsageError(f"a wheel {requirement}", seen=seen, hint="check name and version in the app file")
    raise EnvironmentFailure(f"pip to download {requirement}", seen=seen, hint="check the network, then try again")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme != "https":
            raise UsageError(f"{req.full_url} to stay on https", seen=f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def download(url: str, target: Path, deadline: Deadline, *, context: ssl.SSLContext | None = None) -> None:
    """Download an https address into a new file; the caller checks its hash.

    Raises:
        UsageError: There is nothing at that address (4xx), or it is larger than 8 GB.
        EnvironmentFailure: The network, or its server, failed.
    """
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context or ssl.create_default_context()), _OnlyHttps()
    )
    request = urllib.request.Request(url, headers={"User-Agent": "sysext-harness"})  # noqa: S310 - https, checked
    size = 0
    try:
        with opener.open(request, timeout=max(1.0, min(60.0, deadline.remaining))) as answer, target.open("xb") as file:
            claimed = answer.headers.get("Content-Length")
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                if size > MAX_DOWNLOAD:
                    raise UsageError(f"{url} to have at most {MAX_DOWNLOAD} bytes", seen="more")
                if deadline.expired:
                    raise EnvironmentFailure(f"{url} to be downloaded in time", seen=f"{size} bytes until now")
                file.write(chunk)
    except urllib.error.HTTPError as error:
        if 400 <= error.code < 500 and error.code not in (408, 425, 429):
            raise UsageError(f"a file at {url}", seen=f"HTTP {error.code} {error.reason}") from error
        raise EnvironmentFailure(f"{url} to be downloaded", seen=f"HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError) as error:
        raise EnvironmentFailure(f"{url} to be downloaded", seen=str(error), hint="check the network") from error
    if claimed is not None and claimed.isdigit() and int(claimed) != size:
        raise EnvironmentFailure(f"{url} to be downloaded whole", seen=f"{size} of {claimed} bytes", hint="try again")


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, over its names, permission bits, link targets and contents."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256(path.name.encode())
    for entry in sorted(path.rglob("*")):
        name = str(entry.relative_to(path))
        if entry.is_symlink():
            part = f"link {os.readlink(entry)}"  # noqa: PTH115 - the text itself
        elif entry.is_file():
            part = f"file {entry.stat().st_mode & 0o777:o} {_digest(entry)}"
        else:
            part = "folder"
        total.update(f"{name}\0{part}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


@contextlib.contextmanager
def _locked(path: Path, deadline: Deadline, *, what: str) -> Iterator[None]:
    """Hold a lock across processes; the system frees it when its holder ends, however it ends."""
    with path.open("a") as file:
        take: Callable[[], bool] = lambda: _try_lock(file.fileno())  # noqa: E731
        wait_until(
            take,
            what=f"another process to finish fetching {what}",
            deadline=deadline,
            interval=0.1,
            hint=f"who holds it: fuser {path}",
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
        try:
            yield
        finally:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
