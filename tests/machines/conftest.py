"""A stub `tart` with a TART_HOME of its own, and an SSH door that only says its banner."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.config import GuestSettings, Settings, TartSettings, Timeouts
from harness.machines import TartProvider
from harness.machines.cleanup import delete_all
from harness.machines.tart_cli import TartCli

IMAGE = "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest"


@dataclass
class Stub:
    """The stub `tart`, its home, and what it is told to do."""

    executable: Path
    home: Path

    def told(self, **what: Any) -> None:
        (self.home / "stub.json").write_text(json.dumps({"images": [IMAGE], **what}))

    def calls(self, verb: str = "") -> list[list[str]]:
        path = self.home / "calls.jsonl"
        argvs = [json.loads(line)["argv"] for line in path.read_text().splitlines()] if path.exists() else []
        return [argv for argv in argvs if not verb or argv[0] == verb]

    def environments(self) -> list[dict[str, str | None]]:
        return [json.loads(line)["env"] for line in (self.home / "calls.jsonl").read_text().splitlines()]

    def vms(self) -> list[str]:
        return sorted(path.name for path in (self.home / "vms").iterdir()) if (self.home / "vms").is_dir() else []

    def cli(self) -> TartCli:
        return TartCli(str(self.executable), home=self.home)

    def settings(self, cache: Path, *, slots: int = 2, ssh_port: int = 22, **tart: Any) -> Settings:
        return Settings(
            provider="tart",
            cache=cache,
            tart=TartSettings(executable=str(self.executable), home=self.home, slots=slots, **tart),
            guest=GuestSettings(ssh_port=ssh_port),
            timeouts=Timeouts(slot=0.3, shutdown=5),
        )


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    executable = tmp_path / "bin" / "tart"
    executable.parent.mkdir()
    code = (Path(__file__).parent / "stub_tart.py").read_text(encoding="utf-8")
    executable.write_text(f"#!{sys.executable} -IS\n{code}", encoding="utf-8")
    executable.chmod(0o755)
    home = tmp_path / "tart"
    home.mkdir()
    made = Stub(executable, home)
    made.told()
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def provider(stub: Stub, cache: Path) -> Iterator[TartProvider]:
    made = TartProvider(stub.settings(cache))
    made.start_pauses = (0.01, 0.01)
    yield made
    assert delete_all() == []


@pytest.fixture
def door() -> Iterator[Callable[..., tuple[str, int]]]:
    """`door(greeting, host)` opens a loopback port that greets like that; returns (host, port)."""
    with contextlib.ExitStack() as stack:

        def serve(listener: socket.socket, greeting: bytes) -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(greeting)

        def open_door(
            greeting: bytes = b"SSH-2.0-OpenSSH_9.9\r\n", host: str = "127.0.0.1", port: int = 0
        ) -> tuple[str, int]:
            listener = socket.create_server((host, port))
            thread = threading.Thread(target=serve, args=(listener, greeting), daemon=True)
            thread.start()

            def close() -> None:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()
                thread.join(5)

            stack.callback(close)
            name: tuple[str, int] = listener.getsockname()
            return name

        yield open_door
