"""Commands over a real OpenSSH sshd."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import threading
from pathlib import Path

import paramiko
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import events
from harness.errors import HarnessError, Verdict, WaitTimeout, verdict_of
from harness.guest import CommandFailed, CommandTimeout, ConnectionLost, HostKeyChanged, LoginRefused
from harness.guest.connection import NO_REASON
from harness.guest.quoting import command_line, quote
from harness.waiting import Deadline, wait_until
from tests.support.guest_sshd import SUDO, Proxy, Sshd, free_port, soon

HOSTILE = st.text(
    st.one_of(
        st.sampled_from(list("'\"\\$`!*?[]{}()<>|&;#~= \t\n\r%^@")),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
    max_size=30,
)


@contextlib.contextmanager
def recorded():
    log = events.EventLog()
    records: list[dict] = []
    log.subscribe(records.append)
    with events.use(log):
        yield records


def gone(pid: int, *, within: float = 10) -> bool:
    def dead() -> bool:
        try:
            with Path(f"/proc/{pid}/stat").open() as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(dead, what=f"process {pid} to end", deadline=soon(within), interval=0.05)
    return True


def test_streams_exit_code_and_time_are_kept_apart(guest):
    result = guest.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == (b"out\n", b"err\n", 3, None)
    assert result.seconds > 0
    assert result.lines == ["out"]


def test_a_signal_is_told_from_an_exit_code(guest):
    result = guest.run(["/bin/sh", "-c", "kill -9 $$"], check=False)
    assert (result.exit_code, result.signal) == (137, "KILL")


def test_a_failing_command_says_what_it_said(guest):
    with pytest.raises(CommandFailed) as caught:
        guest.run(["/bin/sh", "-c", "echo why-it-failed >&2; exit 7"])
    assert "exit code 7" in caught.value.seen
    assert "why-it-failed" in caught.value.seen
    assert caught.value.hint
    assert caught.value.result is not None
    assert caught.value.result.exit_code == 7


def test_a_missing_command_is_named_so(guest):
    with pytest.raises(CommandFailed, match="no such command"):
        guest.run(["no-such-command-at-all"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(HOSTILE, max_size=12), value=HOSTILE)
def test_every_word_arrives_as_it_is(guest, words, value):
    script = 'for word in "$@"; do printf "%s\\0" "$word"; done; printf "%s" "$VALUE"'
    result = guest.run(["/bin/sh", "-c", script, "sh", *words], env={"VALUE": value}, quiet=True)
    *got, last = result.stdout.split(b"\0")
    assert got == [word.encode() for word in words]
    assert last == value.encode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=HOSTILE.filter(lambda text: text not in ("", ".", "..") and "/" not in text and len(text.encode()) < 200))
def test_hostile_file_names_work_in_commands_and_transfers(guest, tmp_path, name):
    folder = tmp_path / "files"
    folder.mkdir(exist_ok=True)
    (tmp_path / "source").write_bytes(b"content")
    guest.run(["touch", "--", name], cwd=str(folder), quiet=True)
    assert (folder / name).is_file()
    guest.put(tmp_path / "source", f"{folder}/{name}", deadline=soon())
    assert guest.read_bytes(f"{folder}/{name}") == b"content"
    assert guest.listdir(str(folder)) == [name]
    (folder / name).unlink()


@given(st.text(max_size=40))
def test_quoting_is_one_word_or_refused(word):
    if "\0" in word:
        with pytest.raises(HarnessError):
            quote(word)
        return
    import shlex

    assert shlex.split(quote(word).decode("utf-8", "surrogateescape")) == [word]


def test_words_that_a_shell_would_take_as_its_own_are_quoted(guest):
    assert command_line(["time", "x"]).startswith(b"'time'")
    assert quote("=ls") == b"'=ls'"
    guest.run(["/bin/sh", "-c", "exit 0"])
    assert guest.run(["if"], check=False).exit_code == 127


@pytest.mark.parametrize("argv", [[], [""], ["-x"]])
def test_what_is_no_command_is_refused(guest, argv):
    with pytest.raises(HarnessError):
        guest.run(argv)


def test_an_environment_name_cannot_smuggle_a_command(guest):
    with pytest.raises(HarnessError):
        guest.run(["true"], env={"A=1 touch /tmp/x;B": "1"})


def test_input_of_any_size_reaches_the_command(guest):
    for data in (b"", b"small", os.urandom(5 << 20)):
        assert guest.run(["cat"], input=data).stdout == data


def test_input_that_nobody_reads_is_no_failure(guest):
    assert guest.run(["head", "-c", "3"], input=b"abc" + bytes(8 << 20)).stdout == b"abc"


def test_an_input_that_fails_here_is_told(guest):
    def pieces():
        yield b"one"
        raise ValueError("the source broke")

    with pytest.raises((ValueError, ConnectionLost)):
        guest.run(["cat"], input=pieces())


def test_both_outputs_at_once_do_not_block_each_other(guest):
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    result = guest.run(["/bin/sh", "-c", script])
    assert (len(result.stdout), len(result.stderr)) == (6_000_000, 3_000_000)


def test_output_can_go_to_a_file(guest):
    sink = io.BytesIO()
    result = guest.run(["printf", "%s", "hello"], stdout_to=sink)
    assert (sink.getvalue(), result.stdout) == (b"hello", b"")


def test_too_much_output_is_ended_and_told(guest):
    with pytest.raises(CommandFailed, match="at most 100,000 bytes"):
        guest.run(["yes"], max_output=100_000)


def test_the_deadline_ends_the_command_in_the_guest_too(guest, tmp_path):
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandTimeout) as caught:
        guest.run(["/bin/sh", "-c", f"echo begun; echo $$ > {pid_file}; sleep 300; echo never"], deadline=Deadline(0.8))
    assert "begun" in caught.value.seen
    assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE
    assert gone(int(pid_file.read_text()))
    assert guest.run(["echo", "on"]).text == "on\n"


def test_many_commands_share_one_connection(guest):
    results: list[str] = []

    def work(number: int) -> None:
        results.append(guest.run(["/bin/sh", "-c", f"sleep 0.1; echo {number}"]).text.strip())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(int, results)) == list(range(24))
    assert guest._serial == 1


def test_a_refusal_whose_reason_another_thread_took_is_a_refusal(guest, monkeypatch):
    connection = guest.living(soon())
    refusals = [paramiko.SSHException("Unable to open channel.")]
    open_channel = connection._transport.open_channel

    def opened(*arguments, **named):
        if refusals:
            raise refusals.pop()
        return open_channel(*arguments, **named)

    monkeypatch.setattr(connection._transport, "open_channel", opened)
    assert guest.run(["echo", "there"]).text == "there\n"
    assert refusals == []
    assert guest._serial == 1
    source = inspect.getsource(paramiko.Transport.open_channel)
    assert NO_REASON in source, "paramiko words it otherwise now"


class TestSudo:
    def test_the_password_goes_by_standard_input_only(self, guest, sshd):
        sshd.stub("sudo", SUDO)
        with recorded() as records:
            result = guest.run(["/bin/sh", "-c", "cat; echo $STUB_SUDO"], sudo=True, input=b"my own input\n")
        assert result.stdout == b"my own input\n1\n"
        assert "opensesame" not in json.dumps(records)
        assert "opensesame" not in (sshd.stubs / "sudo-calls").read_text()

    def test_a_passwordless_sudo_does_not_get_the_password_as_the_commands_input(self, guest, sshd):
        sshd.stub("sudo", SUDO)
        (sshd.stubs / "sudo-nopasswd").touch()
        assert guest.run(["cat"], sudo=True, input=b"only this").stdout == b"only this"
        assert guest.run(["cat"], sudo=True).stdout == b""

    def test_a_wrong_password_is_named(self, sshd, tmp_path):
        sshd.stub("sudo", SUDO)
        with sshd.guest(tmp_path / "m", password="not-it") as guest:
            guest.connect(soon())
            with pytest.raises(LoginRefused, match="sudo to take the password"):
                guest.run(["true"], sudo=True)

    def test_exit_code_and_hostile_words_go_through(self, guest, sshd):
        sshd.stub("sudo", SUDO)
        hostile = "a 'b' \"c\" $(d) `e` \n\\"
        result = guest.run(["/bin/sh", "-c", 'printf "%s" "$1"; exit 5', "sh", hostile], sudo=True, check=False)
        assert (result.stdout, result.exit_code) == (hostile.encode(), 5)

    def test_a_command_as_root_is_ended_at_its_deadline(self, guest, sshd, tmp_path):
        sshd.stub("sudo", SUDO)
        pid_file = tmp_path / "pid"
        script = f"trap '' TERM; echo $$ > {pid_file}; while :; do sleep 1; done"
        with pytest.raises(CommandTimeout):
            guest.run(["/bin/bash", "-c", script], sudo=True, deadline=Deadline(1.5))
        assert gone(int(pid_file.read_text()))


class TestConnection:
    def test_the_host_key_is_pinned_and_a_change_refused(self, own_sshd, tmp_path):
        with own_sshd.guest(tmp_path / "m") as guest:
            guest.connect(soon())
            assert guest.pin.read_text().startswith("ssh-ed25519 ")
            guest.close()
            guest.connect(soon())  # the same key is fine
            own_sshd.stop()
            Sshd.new_key(own_sshd.host_key)
            own_sshd.start()
            with pytest.raises(HostKeyChanged) as caught:
                guest.connect(soon())
            assert str(guest.pin) in caught.value.hint
            assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE

    def test_it_connects_again_when_the_connection_died_between_commands(self, sshd, tmp_path):
        proxy = Proxy(sshd.port)
        try:
            with recorded() as records, sshd.guest(tmp_path / "m", port=proxy.port) as guest:
                guest.connect(soon())
                proxy.cut()
                wait_until(lambda: not guest.connected, what="the break to be seen", deadline=soon(10), interval=0.02)
                assert guest.run(["echo", "again"]).text == "again\n"
                assert [record["name"] for record in records].count("reconnected") == 1
        finally:
            proxy.close()

    def test_a_command_that_may_have_run_is_not_run_again(self, sshd, tmp_path):
        proxy = Proxy(sshd.port)
        count = tmp_path / "count"
        try:
            with sshd.guest(tmp_path / "m", port=proxy.port) as guest:
                guest.connect(soon())
                threading.Timer(0.5, proxy.cut).start()
                with pytest.raises(ConnectionLost, match="may or may not have run"):
                    guest.run(["/bin/sh", "-c", f"echo x >> {count}; sleep 3"])
                assert guest.run(["true"]).ok
                assert count.read_text() == "x\n"
        finally:
            proxy.close()

    def test_a_guest_that_falls_silent_is_noticed(self, sshd, tmp_path):
        proxy = Proxy(sshd.port)
        try:
            with recorded() as records, sshd.guest(tmp_path / "m", port=proxy.port, keepalive_seconds=0.2) as guest:
                guest.connect(soon())
                under_way = guest.start(["sleep", "8"])
                proxy.frozen = True
                under_way.wait_for_exit(30)
                assert under_way.lost
                assert "guest-silent" in [record["name"] for record in records]
        finally:
            proxy.close()

    def test_nothing_listening_ends_at_the_deadline_with_the_reason(self, sshd, tmp_path):
        with sshd.guest(tmp_path / "m", port=free_port()) as guest, pytest.raises(WaitTimeout) as caught:
            guest.connect(Deadline(1.2))
        assert "refused" in caught.value.seen
        assert caught.value.attempts > 1
        assert verdict_of(caught.value) is Verdict.ENVIRONMENT_FAILURE

    def test_a_refused_login_is_no_time_out(self, sshd, tmp_path):
        other = tmp_path / "other_key"
        Sshd.new_key(other)
        with sshd.guest(tmp_path / "m", key=other) as guest, pytest.raises(LoginRefused, match=r"guest\.key"):
            guest.fresh_connection(soon())

    def test_after_close_nothing_connects_by_itself(self, guest):
        guest.close()
        with pytest.raises(ConnectionLost, match="closed"):
            guest.run(["true"])


class TestBackground:
    def test_lines_come_as_they_are_written(self, guest, tmp_path):
        lines: list[str] = []
        came = threading.Event()

        def take(line: str) -> None:
            lines.append(line)
            came.set()

        go = tmp_path / "go"
        script = f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; printf two; echo three >&2; exit 4"
        under_way = guest.start(["/bin/sh", "-c", script], on_line=take)
        assert came.wait(10)
        assert (lines, under_way.poll()) == (["one"], None)
        go.touch()
        result = under_way.wait(soon())
        assert (lines, result.exit_code, result.stdout, result.stderr) == (["one", "two"], 4, b"one\ntwo", b"three\n")
        assert under_way.stdout_text == "one\ntwo"

    @pytest.mark.parametrize("sudo", [False, True])
    def test_stop_ends_it_in_the_guest(self, guest, sshd, tmp_path, sudo):
        sshd.stub("sudo", SUDO)
        pid_file = tmp_path / "pid"
        script = f"trap '' TERM; echo $$ > {pid_file}; while :; do sleep 1; done"
        under_way = guest.start(["/bin/bash", "-c", script], sudo=sudo)
        wait_until(lambda: pid_file.exists() and pid_file.read_text(), what="it to run", deadline=soon(), interval=0.02)
        under_way.stop(soon(15))
        assert gone(int(pid_file.read_text()))
        assert not under_way.running

    def test_it_knows_when_its_connection_went(self, sshd, tmp_path):
        proxy = Proxy(sshd.port)
        try:
            with sshd.guest(tmp_path / "m", port=proxy.port) as guest:
                guest.connect(soon())
                under_way = guest.start(["sleep", "8"])
                proxy.cut()
                under_way.wait_for_exit(10)
                assert under_way.lost
                with pytest.raises(ConnectionLost):
                    under_way.poll()
        finally:
            proxy.close()

    def test_the_kept_output_is_bounded(self, guest):
        under_way = guest.start(["/bin/sh", "-c", "head -c 300000 /dev/zero | tr '\\0' a; echo END"], keep=1000)
        result = under_way.wait(soon())
        assert len(result.stdout) == 1000
        assert result.stdout.endswith(b"END\n")
