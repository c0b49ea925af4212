"""Where releases come from: the package index itself, an https server on the loopback, files; and what is wrong with them."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import json
import shutil
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness import events
from harness.bundles import fetch_release
from harness.bundles.releases import _explain_pip
from harness.config import AppFile, Release, load_app
from harness.errors import EnvironmentFailure, UsageError, Verdict, WaitTimeout
from harness.waiting import Deadline
from tests.support import bundle_builders as builders

APP = "Mitmproxy Redirector.app"
APP_FILE = """
name = "Mitmproxy Redirector"
bundle_id = "org.mitmproxy.macos-redirector"
team = "S8XHQB96PW"
[extension]
id = "org.mitmproxy.macos-redirector.network-extension"
kind = "transparent-proxy"
[[releases]]
version = "1"
source = "release/*.zip"
"""


def _app(folder: Path, text: str = APP_FILE) -> AppFile:
    path = folder / "app.toml"
    path.write_text(text)
    return load_app(path)


def _files(cache: Path) -> list[str]:
    """What is in the cache besides its locks."""
    return sorted(
        str(path.relative_to(cache))
        for folder in ("apps", "sources")
        for path in (cache / folder).glob("*" if folder == "sources" else "*/*")
    ) + sorted(path.name for path in cache.glob(".*"))


@pytest.fixture
def local(tmp_path: Path, wheel_0115: Path) -> AppFile:
    (tmp_path / "release").mkdir()
    shutil.copy(wheel_0115, tmp_path / "release" / "a.zip")
    return _app(tmp_path)


def test_from_the_package_index(tmp_path: Path, app_0115: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _app(tmp_path)
    release = Release(version="0.11.5", source="pypi:mitmproxy_macos==0.11.5")
    try:
        bundle = fetch_release(release, app, tmp_path / "cache")
    except EnvironmentFailure as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    assert (bundle.short, bundle.team) == ("2.0", "S8XHQB96PW")
    assert builders.snapshot(bundle.path) == builders.snapshot(app_0115)
    monkeypatch.setattr(sys, "executable", "/nonexistent")  # no second download
    assert fetch_release(release, app, tmp_path / "cache").path == bundle.path


def test_from_a_file_beside_the_app_file(local: AppFile, tmp_path: Path) -> None:
    records: list[events.Record] = []
    log = events.EventLog()
    log.subscribe(records.append)
    with events.use(log):
        bundle = fetch_release(local.release(), local, tmp_path / "cache")
    end = next(r for r in records if r["type"] == "end" and r["name"] == "fetch release")
    assert end["attributes"]["cached"] is False
    assert end["attributes"]["bundle_version"] == "2.0 (1)"
    digest = hashlib.sha256((tmp_path / "release" / "a.zip").read_bytes()).hexdigest()
    assert _files(tmp_path / "cache") == [f"apps/{digest[:40]}-Mitmproxy_Redirector/{APP}"]
    assert bundle.path.is_relative_to(tmp_path / "cache")


def test_a_file_that_changed_is_seen(local: AppFile, tmp_path: Path, wheel_0114: Path) -> None:
    first = fetch_release(local.release(), local, tmp_path / "cache")
    shutil.copy(wheel_0114, tmp_path / "release" / "a.zip")
    second = fetch_release(local.release(), local, tmp_path / "cache")
    assert (first.short, second.short) == ("2.0", "1.0")
    assert first.path != second.path


def test_an_app_folder_as_source(tmp_path: Path, small_app: Path) -> None:
    app = _app(tmp_path, APP_FILE.replace("release/*.zip", f"source/{APP}"))
    first = fetch_release(app.release(), app, tmp_path / "cache")
    assert first.path != small_app
    (small_app / "Contents" / "new").write_text("x")
    second = fetch_release(app.release(), app, tmp_path / "cache")
    assert first.path != second.path
    assert (second.path / "Contents" / "new").exists()


@pytest.mark.parametrize(
    ("change", "expected", "seen"),
    [
        (
            ('org.mitmproxy.macos-redirector"\nteam', 'org.example.other"\nteam'),
            "org.example.other",
            "macos-redirector",
        ),
        (("S8XHQB96PW", "ABCDE12345"), "team ABCDE12345", "S8XHQB96PW"),
        (("redirector.network-extension", "redirector.none"), "redirector.none", "network-extension"),
        (("transparent-proxy", "vpn"), "kind vpn", "transparent-proxy or app-proxy"),
        (('name = "Mitmproxy Redirector"', 'name = "Other App"'), "Other App.app", APP),
    ],
    ids=["bundle", "team", "extension", "kind", "name"],
)
def test_another_app_than_the_app_file_says(
    change: tuple[str, str], expected: str, seen: str, local: AppFile, tmp_path: Path
) -> None:
    text = APP_FILE.replace(*change)
    assert text != APP_FILE
    app = _app(tmp_path, text)
    with pytest.raises(UsageError) as error:
        fetch_release(app.release(), app, tmp_path / "cache")
    assert expected in error.value.expected
    assert seen in error.value.seen
    assert _files(tmp_path / "cache") == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_pattern_must_fit_one_file(count: int, local: AppFile, tmp_path: Path) -> None:
    (tmp_path / "release" / "a.zip").unlink()
    for number in range(count):
        (tmp_path / "release" / f"{number}.zip").touch()
    with pytest.raises(UsageError, match="exactly one file") as error:
        fetch_release(local.release(), local, tmp_path / "cache")
    assert error.value.seen == ("0.zip, 1.zip" if count else "no such file")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6, 0.999])
def test_a_truncated_wheel_leaves_nothing(keep: float, local: AppFile, tmp_path: Path) -> None:
    path = tmp_path / "release" / "a.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UsageError):
        fetch_release(local.release(), local, tmp_path / "cache")
    assert _files(tmp_path / "cache") == []


def test_a_wrong_hash_is_refused(local: AppFile, tmp_path: Path) -> None:
    release = Release(version="1", source="release/a.zip", sha256="0" * 64)
    with pytest.raises(UsageError, match="sha256"):
        fetch_release(release, local, tmp_path / "cache")
    assert _files(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "source",
    ["pypi:mitmproxy_macos", "pypi:--index-url==1", "pypi:a==1 --pre", "http://127.0.0.1/a.zip", "file:///etc/passwd"],
)
def test_sources_that_are_not_taken(source: str, tmp_path: Path) -> None:
    app = _app(tmp_path)
    with pytest.raises(UsageError):
        fetch_release(Release(version="1", source=source, sha256="0" * 64), app, tmp_path / "cache")
    assert _files(tmp_path / "cache") == []


def test_what_pip_says_is_told_without_passwords() -> None:
    gone = "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1.0, 2.0)\n"
    with pytest.raises(UsageError, match=r"the last ones are 1\.0, 2\.0"):
        _explain_pip("x==9", gone + "ERROR: No matching distribution found for x==9")
    offline = "WARNING: Retrying after connection broken by 'NewConnectionError': //user:secret@index/x\n"
    with pytest.raises(EnvironmentFailure) as error:
        _explain_pip("x==9", offline + "ERROR: Could not find a version: //user:secret@index/x (from versions: none)")
    assert "secret" not in str(error.value)
    with pytest.raises(EnvironmentFailure, match="ensurepip"):
        _explain_pip("x==9", "/usr/bin/python3: No module named pip")


# --- https ---


@dataclass
class Server:
    address: str
    answers: dict[str, tuple[int, dict[str, str], bytes]]
    asked: list[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    found = Server("", {}, [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            status, headers, body = found.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        found.address = f"https://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        listener.shutdown()
        thread.join()


def test_from_https(server: Server, tmp_path: Path, wheel_0115: Path) -> None:
    body = wheel_0115.read_bytes()
    server.answers["/moved"] = (302, {"Location": "/a.whl"}, b"")
    server.answers["/a.whl"] = (200, {"Content-Length": str(len(body))}, body)
    app = _app(tmp_path)
    release = Release(version="1", source=f"{server.address}/moved", sha256=hashlib.sha256(body).hexdigest())
    bundle = fetch_release(release, app, tmp_path / "cache")
    assert bundle.short == "2.0"
    assert fetch_release(release, app, tmp_path / "cache").path == bundle.path
    assert server.asked == ["/moved", "/a.whl"]  # the second time from the cache
    (note,) = (tmp_path / "cache" / "sources").iterdir()
    assert json.loads(note.read_text())["sha256"] == release.sha256


def test_https_needs_a_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sha256 for"):
        fetch_release(Release(version="1", source=f"{server.address}/a"), _app(tmp_path), tmp_path / "cache")
    assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((404, {}, b""), UsageError, "HTTP 404"),
        ((503, {}, b""), EnvironmentFailure, "HTTP 503"),
        ((200, {"Content-Length": "5000"}, b"short"), EnvironmentFailure, "downloaded"),
        ((302, {"Location": "http://127.0.0.1:9/a"}, b""), UsageError, "redirects to http:"),
        ((200, {}, b"something else"), UsageError, "sha256"),
    ],
    ids=["gone", "broken", "cut off", "downgrade", "other content"],
)
def test_https_that_fails(
    answer: tuple[int, dict[str, str], bytes], error: type[Exception], text: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/a"] = answer
    release = Release(version="1", source=f"{server.address}/a", sha256="1" * 64)
    with pytest.raises(error, match=text):
        fetch_release(release, _app(tmp_path), tmp_path / "cache")
    assert _files(tmp_path / "cache") == []


def test_an_unknown_certificate_is_not_trusted(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    release = Release(version="1", source=f"{server.address}/a", sha256="1" * 64)
    with pytest.raises(EnvironmentFailure, match="certificate verify failed"):
        fetch_release(release, _app(tmp_path), tmp_path / "cache")


# --- several processes ---

_PROGRAM = """
import sys
from pathlib import Path
from harness.bundles import fetch_release
from harness.config import load_app
app = load_app(Path(sys.argv[1]))
print(fetch_release(app.release(), app, Path(sys.argv[2])).path)
"""


def test_two_processes_at_once(local: AppFile, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(local.path), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert len(_files(tmp_path / "cache")) == 1


def test_waiting_for_another_process_has_an_end(local: AppFile, tmp_path: Path) -> None:
    fetch_release(local.release(), local, tmp_path / "cache")
    holder = "import fcntl,sys,time; f=[open(p,'a') for p in sys.argv[1:]]; [fcntl.flock(x,2) for x in f]; print('held',flush=True); sys.stdin.read()"
    locks = [str(path) for path in (tmp_path / "cache" / "locks").iterdir()]
    with subprocess.Popen(
        [sys.executable, "-c", holder, *locks], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(WaitTimeout, match="another process") as error:
            fetch_release(local.release(), local, tmp_path / "cache", deadline=Deadline(0.3))
        assert error.value.verdict is Verdict.ENVIRONMENT_FAILURE
        process.kill()
    assert fetch_release(local.release(), local, tmp_path / "cache").short == "2.0"  # the dead hold no locks


def test_a_wheel_whose_inner_tar_is_damaged(local: AppFile, tmp_path: Path, wheel_0115: Path) -> None:
    with zipfile.ZipFile(wheel_0115) as old, zipfile.ZipFile(tmp_path / "release" / "a.zip", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:900_000] if name.endswith(".tar") else old.read(name))
    with pytest.raises(UsageError, match="whole archive"):
        fetch_release(local.release(), local, tmp_path / "cache")
    assert _files(tmp_path / "cache") == []
