"""Nothing of the canaries is left, what is left still parses, and triage says the same as before."""

from __future__ import annotations

import gzip
import io
import json
import os
import plistlib
import re
import stat
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.redact import redact
from harness.errors import UsageError
from harness.triage import triage
from harness.triage.redacting import PIECE, REPORT_NAME, inputs_of, load_map, redact_folder, save_map
from harness.triage.redaction import Masker

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "bench" / "triage"
CANARIES = (
    "canaryuser", "Canary Person", "canarymac", "canary.person@corp.example.com", "203.0.113.77", "fd12:3456:789a:1::42", "3c:22:fb:11:22:33",
    "C02CANARY7H", "00008103-000CA4A2CA4A2CA4", "CanaryNet 5G", "ghp_canarycanarycanary012345", "hunter2canary", "MIIcanarykey",
)  # fmt: skip
LOG = """\
2025-06-09 15:30:00.123456+0530  canarymac sysextd[123]: client activation request for com.example.app.extension
Jun  9 15:30:00 canarymac kernel[0]: wake
2025-06-09 15:30:01.000001+0530  canarymac sysextd[123]: no policy, cannot allow apps outside /Applications
opened /Users/canaryuser/Library/x by canaryuser, also CANARYUSER_backup
ComputerName: Canary Person’s MacBook Pro
Real Name: Canary Person
Serial Number (system): C02CANARY7H
again C02CANARY7H and canarymac.local
inet 203.0.113.77 inet6 fd12:3456:789a:1::42%en0 ether 3c:22:fb:11:22:33 time 12:34:56
SSID: CanaryNet 5G, associated with CanaryNet 5G
mail canary.person@corp.example.com UDID 00008103-000CA4A2CA4A2CA4
token ghp_canarycanarycanary012345 password=hunter2canary
-----BEGIN EC PRIVATE KEY-----
MIIcanarykey
-----END EC PRIVATE KEY-----
Error Domain=OSSystemExtensionErrorDomain Code=4 "(null)"
com.apple.sx 8C6B5A41-1234-5678-9ABC-DEF012345678 version 1.2.3.4 (1.2.3.4/5) 127.0.0.1 AppIcon@2x.png
"""
KEPT = (
    "client activation request for com.example.app.extension",
    "no policy, cannot allow apps outside /Applications",
    "8C6B5A41-1234-5678-9ABC-DEF012345678",
    "version 1.2.3.4 (1.2.3.4/5)",
    "127.0.0.1",
    "AppIcon@2x.png",
    "12:34:56",
    'OSSystemExtensionErrorDomain Code=4 "(null)"',
)


def evidence(folder: Path) -> Path:
    """A folder with the canaries in every sort of file."""
    folder.mkdir()
    (folder / "canaryuser.log").write_text(LOG, encoding="utf-8")
    line = {
        "eventMessage": "open /Users/canaryuser/x\ncanaryuser at Canary Person’s MacBook Pro",
        "hostName": "canarymac",
        "crashReporterKey": "CA4A2CA4-1111-2222-3333-444455556666",
    }
    ndjson = json.dumps(line).replace("/", "\\/") + "\n" + json.dumps({"eventMessage": "SSID = CanaryNet 5G"}) + "\n"
    (folder / "log.ndjson").write_text(ndjson * 3, encoding="utf-8")
    report = json.dumps({"app_name": "x", "bug_type": "309"}) + "\n" + json.dumps(
        {"procPath": "/Users/canaryuser/App.app/x", "crashReporterKey": "CA4A2CA4-1111-2222-3333-444455556666", "pid": 7}, indent=2
    )  # fmt: skip
    (folder / "x.ips").write_text(report, encoding="utf-8")
    plist = {
        "IOPlatformSerialNumber": "C02CANARY7H",
        "CanaryNet 5G": {"SSID_STR": "CanaryNet 5G", "BSSID": "3c:22:fb:11:22:33"},
        "paths": ["/Users/canaryuser/y"],
        "data": b"canary.person@corp.example.com",
        "inner": plistlib.dumps({"user": "canaryuser"}, fmt=plistlib.FMT_BINARY),
        "count": 3,
    }
    (folder / "b.plist").write_bytes(plistlib.dumps(plist, fmt=plistlib.FMT_BINARY))
    (folder / "x.plist").write_bytes(plistlib.dumps(plist, fmt=plistlib.FMT_XML))
    (folder / "old.log.gz").write_bytes(gzip.compress(LOG.encode()))
    with tarfile.open(folder / "sysdiagnose.tar.gz", "w:gz") as archive:
        for name, data in (
            ("s/canaryuser/system.log", LOG.encode()),
            ("s/b.plist", (folder / "b.plist").read_bytes()),
            ("s/logdata.tracev3", b"\0canaryuser\0"),
            ("../canaryuser-escapes", b"canaryuser"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.uname = "canaryuser"
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("s/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/Users/canaryuser"
        archive.addfile(link)
    (folder / "screen.png").write_bytes(b"\x89PNG\r\n\x1a\n\0canaryuser")
    return folder


def everything(folder: Path) -> str:
    """All that is in a folder, archives and property lists opened, names included."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.relative_to(folder).as_posix())
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    parts += [member.name, member.uname, member.linkname]
                    body = archive.extractfile(member) if member.isfile() else None
                    parts.append(shown(body.read()) if body else "")
        parts.append(shown(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data))
    return "\n".join(parts)


def shown(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    if data.startswith(b"bplist00"):
        value = plistlib.loads(data)
        text += str(value) + "".join(
            str(plistlib.loads(item)) for item in value.values() if str(item)[:10] == "b'bplist00"
        )
    return text + re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found.group(1), 16)), text)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    base = tmp_path_factory.mktemp("redacted")
    source, target = evidence(base / "in"), base / "out"
    ended = CliRunner().invoke(redact, [str(source), "-o", str(target)], catch_exceptions=False)
    assert ended.exit_code == 0
    return source, target, ended.output


def test_nothing_of_the_canaries_is_left(done: tuple[Path, Path, str]) -> None:
    source, target, said = done
    before, after = everything(source).casefold(), everything(target).casefold()
    for canary in (*CANARIES, "CA4A2CA4-1111", "Canary Person’s"):
        assert canary.casefold() in before, canary
        assert canary.casefold() not in after, canary
        assert canary.casefold() not in said.casefold(), canary


def test_what_identifies_software_and_times_stays(done: tuple[Path, Path, str]) -> None:
    _, target, _ = done
    text = next(path for path in target.glob("*.log")).read_text(encoding="utf-8")
    for kept in KEPT:
        assert kept in text
    assert text.count("\n") == LOG.count("\n") - 2  # the key's own lines


def test_what_is_left_still_parses(done: tuple[Path, Path, str]) -> None:
    source, target, _ = done
    for line in (target / "log.ndjson").read_text().splitlines():
        assert set(json.loads(line)) & {"eventMessage"}
    head, _, body = (target / "x.ips").read_text().partition("\n")
    assert json.loads(head)["bug_type"] == "309"
    assert json.loads(body)["pid"] == 7
    for name in ("b.plist", "x.plist"):
        value = plistlib.loads((target / name).read_bytes())
        assert value["count"] == 3
        assert len(value) == len(plistlib.loads((source / name).read_bytes()))
    with tarfile.open(target / "sysdiagnose.tar.gz") as archive:
        names = archive.getnames()
    assert len(names) == 2
    assert "s/b.plist" in names


def test_the_same_value_has_the_same_pseudonym_everywhere(done: tuple[Path, Path, str]) -> None:
    _, target, _ = done
    ndjson = json.loads((target / "log.ndjson").read_text().splitlines()[0])
    log = next(target.glob("*.log"))
    user = log.stem
    assert user.startswith("user-")
    assert f"/Users/{user}/" in ndjson["eventMessage"]
    assert ndjson["hostName"] in log.read_text(encoding="utf-8")
    report = json.loads((target / "x.ips").read_text().partition("\n")[2])
    assert report["procPath"] == f"/Users/{user}/App.app/x"


def test_what_was_masked_and_withheld_is_listed(done: tuple[Path, Path, str]) -> None:
    _, target, said = done
    listed = json.loads((target / REPORT_NAME).read_text())
    assert set(listed["masked"]) == {
        "user",
        "host",
        "name",
        "email",
        "ipv4",
        "ipv6",
        "mac",
        "serial",
        "udid",
        "ssid",
        "token",
    }
    withheld = {item["name"]: item["why"] for item in listed["withheld"]}
    assert "screen.png" in withheld
    assert any(name.endswith("logdata.tracev3") for name in withheld)
    assert any("leads out" in why for why in withheld.values())
    assert any("link" in why for why in withheld.values())
    assert "screen.png" in said


def test_two_runs_share_pseudonyms_only_through_the_map(tmp_path: Path) -> None:
    def once(name: str, *options: str) -> str:
        target = tmp_path / name
        ended = CliRunner().invoke(
            redact, [str(tmp_path / "a.log"), "-o", str(target), *options], catch_exceptions=False
        )
        assert ended.exit_code == 0
        return (target / "a.log").read_text(encoding="utf-8")

    (tmp_path / "a.log").write_text("/Users/canaryuser/x 203.0.113.77\n")
    kept = ("--keep-map", str(tmp_path / "map.json"))
    first, second, other = once("1", *kept), once("2", *kept), once("3")
    assert first == second
    assert first != other
    assert stat.S_IMODE((tmp_path / "map.json").stat().st_mode) == 0o600
    assert "canaryuser" in (tmp_path / "map.json").read_text()


def test_words_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Project Falcon\n")
    (tmp_path / "a.txt").write_text("about project falcon and falcons\n")
    arguments = [str(tmp_path / "a.txt"), "-o", str(tmp_path / "out"), "--words", str(tmp_path / "words.txt")]
    assert CliRunner().invoke(redact, arguments, catch_exceptions=False).exit_code == 0
    text = (tmp_path / "out" / "a.txt").read_text()
    assert "falcon and" not in text.casefold()
    assert text.endswith("and falcons\n")


@pytest.mark.parametrize("between", ["", "\n\n", "\t"])
def test_a_key_and_its_value_in_two_of_the_pieces_in_which_files_are_read(tmp_path: Path, between: str) -> None:
    first, key = "FVFCANARY99 first\n", "<key>SerialNumber</key>\n"
    room = PIECE - len(first) - len(key)
    text = first + ("x" * 99 + "\n") * (room // 100) + "y" * (room % 100 - 1) + "\n" + key
    assert len(text) == PIECE
    (tmp_path / "a.log").write_text(text + between + "<string>FVFCANARY99</string>\nat last FVFCANARY99\n")
    (tmp_path / "out").mkdir()
    redact_folder(inputs_of(tmp_path / "a.log"), tmp_path / "out", Masker())
    assert "FVFCANARY99" not in (tmp_path / "out" / "a.log").read_text()


def test_a_private_key_that_lies_across_two_pieces(tmp_path: Path) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIcanary\n" * 60 + "-----END PRIVATE KEY-----\nafter\n"
    (tmp_path / "a.log").write_text("y" * (PIECE - 300) + "\n" + key)
    (tmp_path / "out").mkdir()
    redact_folder(inputs_of(tmp_path / "a.log"), tmp_path / "out", Masker())
    text = (tmp_path / "out" / "a.log").read_text()
    assert "MIIcanary" not in text
    assert text.endswith("after\n")


def test_a_line_without_end_is_not_passed_on_unseen(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("z" * (6 << 20) + "canaryuser")
    (tmp_path / "out").mkdir()
    redact_folder(inputs_of(tmp_path / "a.txt"), tmp_path / "out", Masker())
    assert (tmp_path / "out" / "a.txt").read_text() == "(withheld: a line without end)\n"


def test_nothing_is_overwritten_and_nothing_half_done_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x\n")
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="it is there"):
        CliRunner().invoke(redact, [str(tmp_path / "a.log"), "-o", str(tmp_path / "there")], catch_exceptions=False)
    (tmp_path / "torn.log.gz").write_bytes(gzip.compress(os.urandom(50).hex().encode() * 99)[:-20])
    with pytest.raises(UsageError, match=r"torn\.log\.gz"):
        CliRunner().invoke(redact, [str(tmp_path / "torn.log.gz"), "-o", str(tmp_path / "new")], catch_exceptions=False)
    with pytest.raises(UsageError, match="nowhere"):
        CliRunner().invoke(redact, [str(tmp_path / "nowhere"), "-o", str(tmp_path / "new")], catch_exceptions=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "there", "torn.log.gz"]


def test_a_map_is_read_back_and_a_bad_one_refused(tmp_path: Path) -> None:
    masker = Masker()
    masker.learn("hostname: canarymac")
    pseudonym = masker.mask("canarymac")
    save_map(tmp_path / "map", masker)
    key, known = load_map(tmp_path / "map")
    assert Masker(key=key, known=known).mask("on canarymac") == f"on {pseudonym}"
    (tmp_path / "bad").write_text('{"key": 3}')
    with pytest.raises(UsageError, match="map of pseudonyms"):
        load_map(tmp_path / "bad")


@pytest.mark.parametrize(
    "text", ["(203.0.113.77)", "tcp/203.0.113.77:443", "https://203.0.113.77/", "host-203.0.113.77"]
)
def test_an_address_is_no_version(text: str) -> None:
    assert "203.0.113.77" not in Masker().mask(text)


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_masking_twice_is_masking_once(text: str) -> None:
    masker = Masker()
    text = f"user name: canaryuser {text} 203.0.113.77 a@b.example.com"
    masker.learn(text)
    once = masker.mask(text)
    assert masker.mask(once) == once
    assert "203.0.113.77" not in once


@given(st.binary(max_size=400))
@settings(max_examples=40)
def test_any_bytes_are_redacted_or_withheld(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "x").write_bytes(data)
    (folder / "out").mkdir()
    try:
        done = redact_folder(inputs_of(folder / "x"), folder / "out", Masker())
    except UsageError:
        return
    assert done.written + len(done.withheld) == 1


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.text(max_size=20) | st.integers(0, 9) | st.lists(st.text(max_size=9), max_size=3),
        max_size=4,
    )
)
@settings(max_examples=40)
def test_json_stays_json_with_its_shape(value: dict[str, object]) -> None:
    text = json.dumps({"hostname": "canarymac", **{f"k{key}": item for key, item in value.items()}})
    masker = Masker()
    masker.learn(text)
    after = json.loads(masker.mask(text))
    assert len(after) == len(json.loads(text))
    assert after["hostname"] != "canarymac"


@pytest.mark.parametrize("number", range(2))
def test_triage_says_the_same_of_real_samples(tmp_path: Path, number: int) -> None:
    if not (SHARED / "dev" / "index.jsonl").exists():
        pytest.skip("../shared is absent: no samples")
    rows = [json.loads(line) for line in (SHARED / "dev" / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    source = tmp_path / "in"
    source.mkdir()
    for row in rows[number::30]:
        file = SHARED / "dev" / row["file"]
        if file.stat().st_size < 1 << 20:
            (source / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    target = tmp_path / "out"
    target.mkdir()
    redact_folder(inputs_of(source), target, Masker())
    different = []
    for path in sorted(source.iterdir()):
        before, after = triage([path]), triage([target / path.name])
        if [cause.code for cause in before.causes] != [cause.code for cause in after.causes]:
            different.append(
                (path.name, [cause.code for cause in before.causes], [cause.code for cause in after.causes])
            )
    assert different == []
