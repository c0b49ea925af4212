"""A stand-in for `tart` with the exact texts and exit codes of Tart 2.3x, told what to do by $TART_HOME/stub.json.

Run as a program (see conftest.py), never imported. Keys of stub.json, all optional:
  version      "2.35.0"
  images       names that `list` shows as OCI and `clone` takes
  remote       names that `clone` can pull
  pull_error   what pulling anything else says
  clone_seconds, say (verb -> [exit code, stdout, stderr]): forced answers
  run          list of runs, one used per `tart run`: {"out": …, "err": …, "exit": code or null for "goes on", "vnc": bool}
  ip           {resolver: [answers in turn; the last stays; null = no address]}
  deaf         `run` ignores SIGINT
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

HOME = Path(os.environ["TART_HOME"])
VMS = HOME / "vms"
VMS.mkdir(parents=True, exist_ok=True)
STUB = json.loads((HOME / "stub.json").read_text()) if (HOME / "stub.json").exists() else {}
VERSION = STUB.get("version", "2.35.0")


def take(name, default):
    """The next of the answers called `name`; the last one stays."""
    answers = STUB.get(name, default) if isinstance(name, str) else STUB.get(name[0], {}).get(name[1], default)
    counter = HOME / f"count-{name if isinstance(name, str) else '-'.join(name)}"
    index = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(index + 1))
    return answers[min(index, len(answers) - 1)]


def fail(code, text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    sys.exit(code)


def locked(name):
    """Whether a `run` holds the VM, as Tart tells it: by the lock on config.json."""
    try:
        with (VMS / name / "config.json").open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def state(name):
    if locked(name):
        return "running"
    return "suspended" if (VMS / name / "state.vzvmsave").exists() else "stopped"


def need(name):
    if not (VMS / name).is_dir():
        fail(2, f'the specified VM "{name}" does not exist')


def pid_of(name):
    return int((VMS / name / "pid").read_text())


def row(source, name, condition):
    newer = tuple(map(int, VERSION.split("."))) >= (2, 31, 0)
    age = {"Accessed": "2026-08-04T10:11:12Z"} if newer else {"SizeOnDisk": 25}
    return {
        "Disk": 50,
        "Name": name,
        "Running": condition == "running",
        "Size": 25,
        "Source": source,
        "State": condition,
        **age,
    }


def list_():
    rows = [row("local", path.name, state(path.name)) for path in sorted(VMS.iterdir())]
    rows += [row("OCI", name, "stopped") for name in STUB.get("images", [])]
    text = json.dumps(rows, indent=2, separators=(",", " : ")).replace("/", "\\/") if rows else "[\n\n]"
    print(text)


def fqn(name):
    if "/" not in name:
        print(name)
        return
    if name not in STUB.get("images", []) + STUB.get("remote", []):
        fail(1, f"OCI storage error: {name} is not a digest and doesn't point to a digest")
    print(name.rpartition(":")[0] + "@sha256:" + hashlib.sha256(name.encode()).hexdigest())


def clone(source, name, *_):
    if "/" in source:
        if source not in STUB.get("images", []):
            if source not in STUB.get("remote", []):
                text = (
                    'Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: "MANIFEST_UNKNOWN")'
                )
                fail(1, STUB.get("pull_error", text))
            print("pulling manifest...", "pulling disk (14.3 GB compressed)...", sep="\n", flush=True)
            for percent in (0, 4, 9, 10, 55, 100):
                print(f"{percent}%", flush=True)
            print("pulling NVRAM...", flush=True)
    else:
        need(source)
    shutil.rmtree(VMS / name, ignore_errors=True)  # an existing VM is replaced without a word
    (VMS / name).mkdir()
    (VMS / name / "config.json").write_text("{}")
    time.sleep(STUB.get("clone_seconds", 0))


def run(name, *_):
    if not (VMS / name).is_dir():
        fail(1, f'Error: the specified VM "{name}" does not exist')
    what = take("run", [{}])
    config = (VMS / name / "config.json").open("r+")
    try:
        fcntl.lockf(config, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        fail(2, f'VM "{name}" is already running!')
    (VMS / name / "pid").write_text(str(os.getpid()))
    news = []
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda caught, _: news.append(caught))
    if what.get("vnc", True):
        print("VNC server is running at vnc://:abandon-ability-able-about@127.0.0.1:50123", flush=True)
    if "out" in what:
        print(what["out"], flush=True)
    if "err" in what:
        sys.stderr.write(what["err"] + "\n")
    if what.get("exit") is not None:
        sys.exit(what["exit"])
    (VMS / name / "state.vzvmsave").unlink(missing_ok=True)
    while True:
        time.sleep(0.02)
        if signal.SIGINT in news and not STUB.get("deaf"):
            print("Stopping VM...", flush=True)
            sys.exit(0)
        if signal.SIGUSR1 in news:
            print("pausing VM to take a snapshot...", "creating a snapshot...", sep="\n")
            (VMS / name / "state.vzvmsave").write_text("")
            print("snapshot created successfully! shutting down the VM...", flush=True)
            sys.exit(0)
        if (VMS / name / "shutdown").exists():
            print("guest has stopped the virtual machine", flush=True)
            sys.exit(0)


def ip(name, *options):
    need(name)
    resolver = options[options.index("--resolver") + 1] if "--resolver" in options else "dhcp"
    answer = take(("ip", resolver), [None])
    if answer is None:
        fail(1, "no IP address found" + ("" if locked(name) else ", is your VM running?"))
    print(answer)


def stop(name, *options):
    need(name)
    if not locked(name):
        fail(2, f'VM "{name}" is not running')
    timeout = float(options[options.index("--timeout") + 1]) if "--timeout" in options else 30
    pid = pid_of(name)
    os.kill(pid, signal.SIGINT)
    until = time.monotonic() + timeout
    while locked(name) and time.monotonic() < until:
        time.sleep(0.05)
    if locked(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def suspend(name):
    need(name)
    if not locked(name):
        fail(2, f'VM "VM "{name}" is not running" is not running')
    os.kill(pid_of(name), signal.SIGUSR1)


def delete(*names):
    for name in names:
        need(name)
        if locked(name):
            fail(1, f'VM "{name}" is running')
        shutil.rmtree(VMS / name)


def set_(name, *_):
    need(name)


def main():
    verb, *arguments = sys.argv[1:]
    with (HOME / "calls.jsonl").open("a") as log:
        environment = {
            key: os.environ.get(key) for key in ("CI", "TART_NO_AUTO_PRUNE", "SYSEXT_GUEST__PASSWORD", "EXTRA")
        }
        log.write(json.dumps({"argv": sys.argv[1:], "env": environment}) + "\n")
    if verb in STUB.get("say", {}):
        code, out, err = STUB["say"][verb]
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
    if verb == "--version":
        print(VERSION)
        return
    verbs = {"list": lambda *_: list_(), "clone": clone, "run": run, "ip": ip, "stop": stop, "suspend": suspend}
    verbs |= {"delete": delete, "set": set_, "fqn": fqn}
    if verb not in verbs:
        fail(
            64,
            f"Error: Unexpected argument '{verb}'\nUsage: tart <subcommand>\n  See 'tart --help' for more information.",
        )
    verbs[verb](*arguments)


main()
