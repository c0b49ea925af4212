"""The `tart` executable without a running machine: argv, messages, exit codes, files, as Tart has them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.simulator.addresses import Lease, Leases, address_of
from harness.simulator.faults import HULL_FAULTS, check_faults, decide, known_faults, parse_faults
from harness.simulator.interfaces import Fault
from harness.simulator.settings import from_environment
from harness.simulator.store import Store, TartError

SEQUOIA = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"
Tart = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tart(tmp_path: Path) -> Tart:
    def run(*words: str, env: dict[str, str] | None = None, input_: str = "") -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SYSEXT_")}
        environment |= {"TART_HOME": str(tmp_path / "home"), **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "harness.simulator.tart", *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False, input=input_,
        )  # fmt: skip

    return run


def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        (["ip", "x"], 2, 'the specified VM "x" does not exist\n'),
        (["get", "x"], 2, 'the specified VM "x" does not exist\n'),
        (["stop", "x"], 2, 'the specified VM "x" does not exist\n'),
        (["delete", "x"], 2, 'the specified VM "x" does not exist\n'),
        (["run", "x"], 1, 'Error: the specified VM "x" does not exist\n'),
        (["set", "../x"], 2, 'the specified VM "../x" does not exist\n'),
        (
            ["get"], 64,
            ("Error: Missing expected argument '<name>'\nHelp:  <name>  VM name\n"
            "Usage: tart get [--format <format>] <name>\n  See 'tart get --help' for more information.\n"),
        ),
        (["nonsense"], 64, "Error: Unexpected argument 'nonsense'\nUsage: tart <subcommand>\n  See 'tart --help' for more information.\n"),
    ],
)  # fmt: skip
def test_errors_to_the_letter(tart: Tart, words: list[str], code: int, stderr: str) -> None:
    ran = tart(*words)
    assert (ran.returncode, ran.stderr, ran.stdout) == (code, stderr, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--source", "x"], "'x' is not a valid <source>"),
        (
            ["list", "--format", "x"],
            "The value 'x' is invalid for '--format <format>'. Please provide one of 'text' and 'json'.",
        ),
        (["list", "--nope"], "Unknown option '--nope'"),
        (["list", "extra"], "Unexpected argument 'extra'"),
        (["list", "a", "b"], "2 unexpected arguments: 'a', 'b'"),
        (["list", "-q", "--format"], "Missing value for '--format <format>'"),
        (["ip", "x", "--wait", "soon"], "The value 'soon' is invalid for '--wait <wait>'"),
        (["ip", "x", "--wait", "65536"], "The value '65536' is invalid for '--wait <wait>'"),
        (["run", "x", "--no-graphics=1"], "The option '--no-graphics' does not take any value, but '1' was specified."),
        (["ip", "x", "--resolver", "dns"], "Please provide one of 'dhcp', 'arp', or 'agent'."),
        (["create", "x"], "Please specify either a --from-ipsw or --linux option!"),
        (["clone", "a", "b/c"], "<new-name> should be a local name"),
        (["clone", "a", "b", "--concurrency", "0"], "network concurrency cannot be less than 1"),
        (["rename", "a", "b"], "failed to rename a non-existent local VM: a"),
        (["prune"], "at least one pruning criteria must be specified"),
        (["login", "ghcr.io", "--username", "u"], "both --username and --password-stdin are required"),
    ],
)
def test_usage_errors(tart: Tart, words: list[str], said: str) -> None:
    ran = tart(*words)
    assert ran.returncode == 64
    assert ran.stderr.startswith("Error: ")
    assert said in ran.stderr.splitlines()[0]
    assert "Usage: tart " in ran.stderr


def test_help_and_version(tart: Tart) -> None:
    assert tart().returncode == tart("--help").returncode == tart("help", "run").returncode == 0
    assert "sim-forward" not in tart("--help").stdout
    assert tart("--version").stdout == "2.35.0\n"


def test_the_quick_verbs_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.simulator.tart import main; main(['list']); main(['--version']);"
        "print([m for m in ('asyncssh','numpy','PIL','pydantic','harness.simulator.guest') if m in sys.modules])"
    )
    environment = {**os.environ, "TART_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


class TestMachines:
    def test_pull_clone_list_get_set_rename_delete(self, tart: Tart, tmp_path: Path) -> None:
        assert tart("list").stdout == "\n"
        assert tart("list", "--format", "json").stdout == "[\n\n]\n"
        pulled = tart("clone", SEQUOIA, "one", env={"CI": "true"})
        assert pulled.returncode == 0
        assert pulled.stdout.startswith(
            "pulling manifest...\npulling disk (22.8 GB compressed)...\n0%\n100%\npulling NVRAM...\n"
        )
        again = tart("clone", SEQUOIA, "two")
        assert (again.stdout, again.stderr) == ("", "")
        rows = json.loads(tart("list", "--format", "json").stdout)
        assert [(row["Source"], row["Name"].split("@")[0]) for row in rows] == [
            ("local", "one"), ("local", "two"), ("OCI", SEQUOIA), ("OCI", SEQUOIA.removesuffix(":latest")),
        ]  # fmt: skip
        assert set(rows[0]) == {"Source", "Name", "Disk", "Size", "Accessed", "Running", "State"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["Accessed"])
        assert rows[0]["Running"] is False
        assert rows[0]["State"] == "stopped"
        assert tart("list", "-q", "--source", "local").stdout == "one\ntwo\n"
        table = tart("list", "--source", "local").stdout.splitlines()
        assert table[0].split() == ["Source", "Name", "Disk", "Size", "Accessed", "State"]
        assert re.fullmatch(r"local +one +50 +25 +\d+ seconds? ago stopped", table[1])
        assert tart("set", "one", "--cpu", "6", "--memory", "8192", "--display", "1920x1080px").stdout == ""
        got = json.loads(tart("get", "one", "--format", "json").stdout)
        assert (got["CPU"], got["Memory"], got["Display"], got["OS"]) == (6, 8192, "1920x1080px", "darwin")
        assert re.fullmatch(r"\d+\.\d{3}", got["Size"])
        assert "LessThanMinimalResourcesError: VM should have 4 CPU cores" in tart("set", "one", "--cpu", "1").stderr
        configs = [json.loads((home(tmp_path) / "vms" / name / "config.json").read_text()) for name in ("one", "two")]
        assert configs[0]["ecid"] == configs[1]["ecid"]
        assert configs[0]["macAddress"] != configs[1]["macAddress"]
        assert list(configs[0]) == sorted(configs[0])
        taken = tart("rename", "one", "two")
        assert taken.returncode == 64
        assert (
            taken.stderr.splitlines()[0]
            == "Error: failed to rename VM one, target VM two already exists, delete it first!"
        )
        assert tart("rename", "one", "three").returncode == 0
        assert tart("delete", "three", "missing", "two").returncode == 2
        assert tart("list", "-q", "--source", "local").stdout == "two\n"
        assert tart("fqn", SEQUOIA).stdout.startswith(SEQUOIA.removesuffix(":latest") + "@sha256:")

    def test_clone_replaces_what_is_there(self, tart: Tart, tmp_path: Path) -> None:
        tart("create", "old", "--linux")
        (home(tmp_path) / "vms/old/disk/mark").touch()
        assert tart("clone", SEQUOIA, "old").returncode == 0
        assert not (home(tmp_path) / "vms/old/disk/mark").exists()
        assert json.loads(tart("get", "old", "--format", "json").stdout)["OS"] == "darwin"

    def test_older_and_newer_versions_print_otherwise(self, tart: Tart) -> None:
        tart("create", "a", "--linux")
        old = json.loads(tart("list", "--format", "json", env={"SYSEXT_SIM_TART_VERSION": "2.30.6"}).stdout)
        assert "SizeOnDisk" in old[0]
        assert "Accessed" not in old[0]
        assert "50 GB" in tart("list", env={"SYSEXT_SIM_TART_VERSION": "2.36.0"}).stdout

    def test_unknown_images(self, tart: Tart) -> None:
        ran = tart("clone", "ghcr.io/cirruslabs/macos-lion-vanilla:latest", "x")
        assert ran.returncode == 1
        assert ran.stderr.startswith('Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: ')
        broken = tart("clone", SEQUOIA, "x", env={"SYSEXT_SIM_FAULTS": "env-pull-404"})
        assert "code: 404" in broken.stderr
        assert tart("pull", "local").stdout == '"local" is a local image, nothing to pull here!\n'

    def test_ip_of_a_stopped_machine(self, tart: Tart, tmp_path: Path) -> None:
        tart("clone", SEQUOIA, "a")
        ran = tart("ip", "a")
        assert (ran.returncode, ran.stderr) == (1, "no IP address found, is your VM running?\n")
        mac = json.loads((home(tmp_path) / "vms/a/config.json").read_text())["macAddress"]
        Leases(home(tmp_path)).grant(Lease("a", "127.70.1.2", mac, 2**40))
        assert tart("ip", "a").stdout == "127.70.1.2\n"  # stale, and `ip` does not mind
        assert tart("sim-forward", "127.70.1.2", "22").stdout == "127.70.1.2:22\n"

    def test_export_and_import(self, tart: Tart, tmp_path: Path) -> None:
        tart("clone", SEQUOIA, "a")
        (home(tmp_path) / "vms/a/disk/Users/admin/kept").write_text("kept")
        assert tart("export", "a", str(tmp_path / "a.tvm")).stdout == "exporting...\n"
        assert tart("import", str(tmp_path / "a.tvm"), "b").stdout == "importing...\n"
        assert (home(tmp_path) / "vms/b/disk/Users/admin/kept").read_text() == "kept"
        assert (home(tmp_path) / "vms/b/disk/tmp").is_symlink()
        assert tart("import", str(tmp_path / "nope"), "c").returncode == 1

    def test_incomplete_folders_are_passed_over(self, tart: Tart, tmp_path: Path) -> None:
        tart("create", "a", "--linux")
        (home(tmp_path) / "vms/a/nvram.bin").unlink()
        assert tart("list", "-q").stdout == ""
        assert tart("get", "a").stderr.startswith("VM is missing some of its files")

    def test_a_closed_pipe_is_quiet(self, tart: Tart, tmp_path: Path) -> None:
        command = f"{sys.executable} -m harness.simulator.tart --help | true; echo ${{PIPESTATUS[0]}}"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert ran.stderr == ""


class TestLeases:
    def test_the_file_is_as_on_a_mac(self, tmp_path: Path) -> None:
        leases = Leases(tmp_path)
        leases.grant(Lease("a", "127.70.0.9", "0a:00:1b:02:03:04", 2_000_000_000))
        text = leases.path.read_text()
        assert "\thw_address=1,a:0:1b:2:3:4\n" in text
        assert "\tlease=0x77359400\n" in text
        assert leases.lookup("0a:00:1b:02:03:04") == "127.70.0.9"

    def test_the_last_to_expire_wins_and_expired_ones_are_gone(self, tmp_path: Path) -> None:
        leases = Leases(tmp_path)
        mac = "0a:00:00:00:00:01"
        leases.grant(Lease("a", "127.70.0.1", mac, 2_000_000_000))
        leases.grant(Lease("a", "127.70.0.2", mac, 2_000_000_001))
        assert leases.lookup(mac) == "127.70.0.2"
        leases.revoke(mac, "127.70.0.2")
        assert leases.lookup(mac) == "127.70.0.1"
        leases.grant(Lease("a", "127.70.0.1", mac, 5))
        assert leases.lookup(mac) is None

    def test_a_malformed_file_is_an_error(self, tmp_path: Path) -> None:
        leases = Leases(tmp_path)
        leases.path.parent.mkdir()
        leases.path.write_text("{\n\tip_address=1.2.3.4\n}\n")
        with pytest.raises(TartError, match="UnexpectedFormat"):
            leases.lookup("0a:00:00:00:00:01")

    def test_many_at_once_lose_nothing(self, tmp_path: Path) -> None:
        macs = [f"0a:00:00:00:00:{n:02x}" for n in range(16)]
        threads = [
            threading.Thread(target=Leases(tmp_path).grant, args=(Lease("x", address_of(mac), mac, 2**40),))
            for mac in macs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [Leases(tmp_path).lookup(mac) for mac in macs] == [address_of(mac) for mac in macs]


class TestFaultsAndSettings:
    def test_the_written_form(self) -> None:
        faults = parse_faults("env-stale-ip:rate=0.25:seed=7:seconds=9, sysextd-crash")
        assert faults == (Fault("env-stale-ip", 0.25, 7, {"seconds": "9"}), Fault("sysextd-crash"))
        assert parse_faults("") == ()

    @pytest.mark.parametrize("text", ["x:rate=2", "x:rate=no", "x:seed=1.5", "x:odd", "a,a", ":rate=1", "x:=1"])
    def test_wrong_forms(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_faults(text)

    def test_unknown_codes_name_the_nearest(self) -> None:
        with pytest.raises(UsageError, match="env-stale-ip"):
            check_faults(parse_faults("env-stale-up"), HULL_FAULTS)

    @given(key=st.text(max_size=8), seed=st.integers())
    def test_a_decision_can_be_repeated(self, key: str, seed: int) -> None:
        fault = Fault("x", 0.5, seed)
        assert decide(fault, key) == decide(fault, key)
        assert decide(Fault("x", 1.0, seed), key)
        assert not decide(Fault("x", 0.0, seed), key)

    def test_a_rate_is_about_kept(self) -> None:
        hits = sum(decide(Fault("x", 0.3, 1), f"run {n}") for n in range(2000))
        assert 500 < hits < 700
        assert {decide(Fault("x", 0.3, seed), "run 1") for seed in range(40)} == {True, False}

    def test_variables(self) -> None:
        settings = from_environment(
            {"SYSEXT_SIM_BOOT_SECONDS": "0.25", "SYSEXT_SIM_SCALE": "2", "SYSEXT_SIM_FAULTS": "a,b"}
        )
        assert (settings.boot_seconds, settings.scale, len(settings.faults), settings.vm_limit) == (0.25, 2, 2, 2)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("BOOT_SECONDS", "-1"), ("BOOT_SECONDS", "soon"), ("SCALE", "3"), ("APPEARANCE", "pink"), ("DISPLAY", "big"),
         ("VM_LIMIT", "x"), ("TART_VERSION", "new"), ("FAULTS", "x:rate=7")],
    )  # fmt: skip
    def test_wrong_variables(self, tart: Tart, name: str, value: str) -> None:
        ran = tart("list", env={f"SYSEXT_SIM_{name}": value})
        assert ran.returncode == 64
        assert "Error: " in ran.stderr

    def test_the_listing_has_every_code(self, tart: Tart) -> None:
        rows = dict(line.split("\t") for line in tart("sim-faults").stdout.splitlines())
        assert rows == known_faults()
        assert set(HULL_FAULTS) < set(rows)

    def test_an_unknown_fault_stops_the_start(self, tart: Tart) -> None:
        tart("clone", SEQUOIA, "a")
        ran = tart("run", "a", "--no-graphics", env={"SYSEXT_SIM_FAULTS": "env-nothing"})
        assert ran.returncode == 64
        assert "env-nothing" in ran.stderr


def test_tart_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TartError, match="TART_HOME is invalid"):
        Store(tmp_path / "file/home")
