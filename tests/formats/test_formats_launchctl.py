"""`launchctl print`: jobs whole, cut off and missing; the block that must not be missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.formats.launchctl import parse_launchctl_print, parse_launchctl_services

JOB = """system/NetworkExtension.org.example.ext.2.0.1 = {
\tactive count = 2
\tpath = (submitted by nesessionmanager.512)
\ttype = Submitted
\tstate = running

\tprogram = /Library/SystemExtensions/50FECB81/org.example.ext.systemextension/Contents/MacOS/org.example.ext
\targuments = {
\t\t/Library/SystemExtensions/a = {b}
\t\t--state = stopped
\t}

\tenvironment = {
\t\tXPC_SERVICE_NAME => NetworkExtension.org.example.ext.2.0.1
\t}

\truns = 3
\tpid = 913
\tlast exit code = 78: EX_CONFIG
\tlast exit reason = OS_REASON_EXEC

\tendpoints = {
\t\t"TEAM.org.example.ext" = {
\t\t\tport = 0x3a777
\t\t\tactive = 1
\t\t\tmanaged = 1
\t\t}
\t\t"second" = {
\t\t\tport = 0x9a403
\t\t\tactive = 0
\t\t}
\t}

\tsubmitted job. ignore execute allowed
\tresource coalition = {
\t\ttype = resource
\t\tstate = active
\t}
\tproperties = runatload | inferred program
}
"""


def test_a_whole_job() -> None:
    job = parse_launchctl_print(JOB)
    assert job is not None
    assert (job.domain, job.label) == ("system", "NetworkExtension.org.example.ext.2.0.1")
    assert (job.state, job.pid, job.runs, job.type) == ("running", 913, 3, "Submitted")
    assert (job.last_exit_code, job.last_exit_reason) == (78, "OS_REASON_EXEC")
    assert job.program.endswith("/org.example.ext")
    assert job.running
    assert job.complete
    assert job.endpoints is not None
    assert [(e.name, e.port, e.active) for e in job.endpoints] == [
        ("TEAM.org.example.ext", "0x3a777", True),
        ("second", "0x9a403", False),
    ]
    assert job.properties["properties"] == "runatload | inferred program"


def test_no_endpoints_differs_from_none_of_them() -> None:
    start, end = JOB.index("\tendpoints"), JOB.index("\tsubmitted job")
    without = parse_launchctl_print(JOB[:start] + JOB[end:])
    empty = parse_launchctl_print(JOB[:start] + "\tendpoints = {\n\t}\n" + JOB[end:])
    assert without is not None
    assert empty is not None
    assert without.endpoints is None
    assert empty.endpoints == ()


def test_a_job_cut_off_anywhere() -> None:
    for end in range(len(JOB) - 3):
        job = parse_launchctl_print(JOB[:end])
        assert job is not None
        assert not job.complete


def test_a_service_that_is_not_there() -> None:
    assert parse_launchctl_print('Could not find service "x" in domain for system\n') is None
    assert parse_launchctl_print('Bad request.\nCould not find service "x" in domain for user gui: 501\n') is None
    assert parse_launchctl_print("") is not None


def test_never_exited() -> None:
    job = parse_launchctl_print("system/x = {\n\tstate = not running\n\tlast exit code = (never exited)\n}\n")
    assert job is not None
    assert (job.last_exit_code, job.last_exit_reason, job.pid, job.running) == (None, "", None, False)
    coded = parse_launchctl_print("system/x = {\n\tlast exit code = 78: EX_CONFIG\n}\n")
    assert coded is not None
    assert (coded.last_exit_code, coded.last_exit_reason) == (78, "EX_CONFIG")


def test_posted_jobs(samples: dict[str, str]) -> None:
    akd = parse_launchctl_print(samples["fmt-047"])
    assert akd is not None
    assert (akd.label, akd.pid, akd.type, akd.runs) == ("com.apple.akd", 928, "LaunchDaemon", 1)
    assert akd.endpoints is not None
    assert len(akd.endpoints) == 2  # the dynamic ones are another block
    new = parse_launchctl_print(samples["fmt-060"])
    assert new is not None
    assert (new.domain, new.managed_by, new.last_exit_code) == ("gui/501", "com.apple.xpc.ServiceManagement", 1)
    assert new.endpoints is None
    assert new.state == "running"  # not the coalitions' "active"
    helper = parse_launchctl_print(samples["fmt-061"])
    assert helper is not None
    assert helper.complete
    assert helper.program == "com.vendor.helper (mode: 1)"
    assert helper.properties["job state"] == "exited"
    fragment = parse_launchctl_print(samples["dev-033"])
    assert fragment is not None
    assert (fragment.state, fragment.runs, fragment.last_exit_reason) == ("spawn scheduled", 324, "OS_REASON_EXEC")
    assert not fragment.complete
    assert parse_launchctl_print(samples["fmt-057"]) is None


def test_services(samples: dict[str, str]) -> None:
    services = parse_launchctl_services(samples["fmt-050"])
    assert [(s.pid, s.status, s.label) for s in services] == [
        (None, "-", "com.vix.cron"),
        (761, "-", "com.adguard.mac.adguard.helper"),
        (1414, "-", "NetworkExtension.com.adguard.mac.adguard.network-extension.2.19.0.2258"),
    ]
    listed = parse_launchctl_services("PID\tStatus\tLabel\n-\t0\tcom.apple.x\n912\t-9\tNetworkExtension.a.1.1\n")
    assert [(s.pid, s.status, s.label) for s in listed] == [
        (None, "0", "com.apple.x"),
        (912, "-9", "NetworkExtension.a.1.1"),
    ]


@given(st.text(alphabet='ab ={}"\n\t.10:/', max_size=300))
def test_any_text(text: str) -> None:
    job = parse_launchctl_print(text)
    assert job is None or isinstance(job.properties, dict)
    parse_launchctl_services(text)


def test_braces_without_end() -> None:
    job = parse_launchctl_print("a = {\n" * 100_000)
    assert job is not None
    assert not job.complete


def test_every_sample_is_survived(samples: dict[str, str]) -> None:
    for text in samples.values():
        parse_launchctl_print(text)
        parse_launchctl_services(text)
