"""The guest as a Mac: against OpenSSH with stub commands that print what Macs print; a reboot is sshd stopped and started."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from harness import events
from harness.errors import Verdict, WaitTimeout
from harness.guest import ConnectionLost, LogStream
from harness.waiting import Deadline, wait_until
from tests.support.guest_sshd import SUDO, USER, Proxy, soon

SW_VERS = "printf 'ProductName:\\t\\tmacOS\\nProductVersion:\\t\\t15.5\\nBuildVersion:\\t\\t24F74\\n'"


def make_mac(server, *, user: str = USER, session: str = "AAAA-1") -> Path:
    """Commands of a Mac as stubs; what they say lies in files that a test may change."""
    state = server.folder / "state"
    state.mkdir(exist_ok=True)
    (state / "session").write_text(session)
    (state / "user").write_text(user)
    (state / "finder").touch()
    server.stub("sudo", SUDO)
    (server.stubs / "sudo-nopasswd").touch()
    server.stub("sysctl", f"cat {state}/session; echo")
    server.stub("stat", f'[ "$*" = "-f %Su /dev/console" ] && {{ cat {state}/user; echo; }} || exec /usr/bin/stat "$@"')
    server.stub("pgrep", f'[ "$*" = "-x Finder" ] && test -e {state}/finder')
    server.stub("sw_vers", SW_VERS)
    server.stub("csrutil", "echo 'System Integrity Protection status: enabled.'")
    server.stub("uname", "echo arm64")
    server.stub("shutdown", f'echo "$*" >> {state}/shutdown')
    return state


def in_background(target) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_the_system_is_read(guest, sshd):
    make_mac(sshd)
    system = guest.system(soon())
    assert (system.product_version, system.build, system.sip) == ("15.5", "24F74", True)
    assert (system.boot_session, system.architecture) == ("AAAA-1", "arm64")
    sshd.stub("csrutil", "echo 'System Integrity Protection status: unknown (Custom Configuration).'")
    assert guest.system(soon()).sip is None


def test_ready_means_console_user_finder_and_two_fresh_connections(guest, sshd):
    state = make_mac(sshd, user="loginwindow")
    (state / "finder").unlink()
    before = guest._serial
    with pytest.raises(WaitTimeout, match="console_user='loginwindow'") as caught:
        guest.wait_ready(Deadline(1.2))
    assert caught.value.verdict is Verdict.ENVIRONMENT_FAILURE
    (state / "user").write_text(USER)
    with pytest.raises(WaitTimeout, match="finder=False"):
        guest.wait_ready(Deadline(1.2))
    (state / "finder").touch()
    assert guest.wait_ready(soon()).console_user == USER
    assert guest._serial == before + 2


def clock_events(log_file: Path) -> list[dict]:
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    return [each["attributes"] | {"event": each["name"]} for each in lines if each.get("name") in ("clock", "degraded")]


def test_each_boot_has_its_clock_compared_with_ours(guest, sshd, tmp_path):
    make_mac(sshd)
    sshd.stub("date", "echo $(( $(/bin/date +%s) - 90 ))")
    log = events.EventLog(tmp_path / "run.jsonl")
    with events.use(log):
        guest.wait_ready(soon())
        sshd.stub("date", "echo noon")
        assert guest.compare_clocks("AAAA-1", soon()) is None
        sshd.stub("date", "exit 3")
        assert guest.compare_clocks("AAAA-1", soon()) is None
    log.close()
    told, odd, failed = clock_events(tmp_path / "run.jsonl")
    assert (told["event"], told["boot_session"]) == ("clock", "AAAA-1")
    assert abs(told["ahead"] + 90) <= told["within"] + 0.1
    assert 0.5 <= told["within"] < 15
    assert odd["event"] == failed["event"] == "degraded"


def test_a_reboot_is_one_when_the_boot_session_changed(own_sshd, tmp_path):
    state = make_mac(own_sshd)
    order: list[str] = []

    def machine() -> None:
        wait_until(lambda: (state / "shutdown").exists(), what="shutdown", deadline=soon(), interval=0.02)
        order.append("shutdown")
        own_sshd.stop()
        own_sshd.start()  # the door opens once more before the Mac goes down: no reboot yet
        threading.Event().wait(1.5)
        own_sshd.stop()
        (state / "session").write_text("BBBB-2")
        own_sshd.start()

    with own_sshd.guest(tmp_path / "m") as guest:
        guest.connect(soon())
        thread = in_background(machine)
        ready = guest.reboot(soon(40), before=lambda: order.append("before"))
        thread.join(10)
    assert order == ["before", "shutdown"]
    assert ready.boot_session == "BBBB-2"
    assert (state / "shutdown").read_text() == "-r now\n"


def test_a_reboot_that_never_happens_is_no_reboot(guest, sshd):
    make_mac(sshd)
    with pytest.raises(WaitTimeout, match="new boot session"):
        guest.reboot(Deadline(2))


def test_a_shutdown_ends_when_ssh_has_gone(own_sshd, tmp_path):
    state = make_mac(own_sshd)

    def machine() -> None:
        wait_until(lambda: (state / "shutdown").exists(), what="shutdown", deadline=soon(), interval=0.02)
        own_sshd.stop()

    guest = own_sshd.guest(tmp_path / "m")
    guest.connect(soon())
    thread = in_background(machine)
    guest.shutdown(soon())
    thread.join(10)
    assert (state / "shutdown").read_text() == "-h now\n"
    assert guest.closed
    with pytest.raises(ConnectionLost):
        guest.run(["true"])


# --- the log stream -----------------------------------------------------------------------------------------------------

LOG = r"""#!/usr/bin/env python3
# log(1): `stream` prints its own line and then what is appended to $STATE/log; `show` prints all from --start on.
import json, os, select, sys
state = {state!r}
with open(state + "/log-calls", "a") as calls: calls.write(json.dumps(sys.argv[1:]) + "\n")
source = open(state + "/log.ndjson", "a+")
if sys.argv[1] == "show":
    source.seek(0)
    start = sys.argv[sys.argv.index("--start") + 1]
    lines = [l for l in source if json.loads(l)["timestamp"][:19] >= start[:19]]
    sys.stdout.write("".join(lines) + json.dumps({{"count": len(lines), "finished": 1}}) + "\n")
    sys.exit(0)
source.seek(0, 2)
print('Filtering the log data using "x"', flush=True)
gone = select.poll()
gone.register(1, 0)
while True:
    line = source.readline()
    if line: print(line, end="", flush=True)
    elif gone.poll(20): sys.exit("nobody listens any more")
"""


def record(state: Path, number: int) -> None:
    line = {
        "timestamp": f"2026-07-26 18:11:{number:02d}.348728+1200",
        "machTimestamp": number,
        "threadID": 7,
        "processID": 9,
        "eventMessage": f"record {number}",
    }
    with (state / "log.ndjson").open("a") as log:
        log.write(json.dumps(line) + "\n")


def messages(path: Path) -> list[str]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("{"):
            data = json.loads(line)
            found.append(data.get("eventMessage") or f"marker {data.get('marker')}")
    return found


def test_the_log_is_streamed_and_a_gap_recorded_and_filled(sshd, tmp_path):
    state = make_mac(sshd)
    sshd.stub("log", LOG.format(state=str(state)))
    proxy = Proxy(sshd.port)
    path = tmp_path / "log.ndjson"
    log = events.EventLog()
    names: list[str] = []
    log.subscribe(lambda line: names.append(line["name"]))
    try:
        with events.use(log), sshd.guest(tmp_path / "m", port=proxy.port) as guest:
            guest.connect(soon())
            stream = LogStream(guest, path, 'process == "sysextd"').start()
            try:
                record(state, 1)
                wait_until(lambda: "record 1" in messages(path), what="record 1", deadline=soon(), interval=0.02)
                stream.mark("before")
                proxy.refuse = True
                proxy.cut()
                wait_until(lambda: stream.gaps, what="the gap", deadline=soon(), interval=0.02)
                record(state, 2)
                record(state, 3)
                proxy.refuse = False
                wait_until(
                    lambda: stream.gaps[0].filled is not None, what="the filling", deadline=soon(), interval=0.02
                )
                record(state, 4)
                wait_until(lambda: "record 4" in messages(path), what="record 4", deadline=soon(), interval=0.02)
            finally:
                stream.stop()
    finally:
        proxy.close()
    assert messages(path) == ["record 1", "marker before", "record 2", "record 3", "record 4"]
    (gap,) = [json.loads(line) for line in stream.gaps_path.read_text().splitlines()]
    assert (gap["filled"], gap["reboot"]) == (2, False)
    assert gap["begin"] <= gap["end"]
    assert gap["reason"]
    assert "log-gap" in names
    calls = [json.loads(line) for line in (state / "log-calls").read_text().splitlines()]
    assert calls[0] == ["stream", "--style", "ndjson", "--level", "debug", "--predicate", 'process == "sysextd"']
    assert calls[-1][:3] == ["show", "--start", "2026-07-26 18:11:01+1200"]


def test_after_a_reboot_a_gap_is_not_filled_from_another_boot(sshd, tmp_path):
    state = make_mac(sshd)
    sshd.stub("log", LOG.format(state=str(state)))
    proxy = Proxy(sshd.port)
    path = tmp_path / "log.ndjson"
    try:
        with sshd.guest(tmp_path / "m", port=proxy.port) as guest:
            guest.connect(soon())
            stream = LogStream(guest, path).start()
            try:
                record(state, 1)
                wait_until(lambda: messages(path), what="record 1", deadline=soon(), interval=0.02)
                (state / "session").write_text("BBBB-2")
                proxy.cut()
                wait_until(lambda: stream.gaps and stream.gaps[0].end, what="the gap", deadline=soon(), interval=0.02)
            finally:
                stream.stop()
            assert (stream.gaps[0].reboot, stream.gaps[0].filled) == (True, None)
    finally:
        proxy.close()


def test_the_file_is_bounded_and_secrets_are_masked(guest, sshd, tmp_path):
    path = tmp_path / "log.ndjson"
    stream = LogStream(guest, path, max_bytes=5000)
    events.SECRETS.add("hunter2-secret")
    for number in range(200):
        stream._take(
            f'{{"timestamp": "2026-01-01 00:00:00", "eventMessage": "hunter2-secret {number:05d}"}}\n'.encode()
        )
    stream.stop()
    assert path.stat().st_size <= 5000
    assert path.with_name("log.ndjson.1").stat().st_size <= 5000
    assert "hunter2" not in path.read_text()
    assert "00199" in path.read_text()
