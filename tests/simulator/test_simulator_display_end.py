"""A display that goes while somebody looks at it goes quietly."""

from __future__ import annotations

import gc
import logging
import socket

import pytest

from harness.screen import VncScreen
from harness.simulator.display.staged import StagedMac
from harness.waiting import Deadline


@pytest.mark.parametrize("clients", ["looking", "shaking hands", "gone in the middle"])
def test_nothing_is_printed(clients: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.WARNING, "asyncio")
    mac = StagedMac("15")
    screen = VncScreen("127.0.0.1", mac.port, mac.VNC_PASSWORD) if clients != "shaking hands" else None
    try:
        if screen is not None:
            screen.frame(Deadline(20))
            if clients == "gone in the middle":
                screen.close()
            mac.close()
        else:
            with socket.create_connection(("127.0.0.1", mac.port), timeout=20) as client:
                assert client.recv(12) == b"RFB 003.008\n"
                mac.close()
                assert client.recv(12) == b""
    finally:
        if screen is not None:
            screen.close()
    gc.collect()  # a task whose exception nobody asked for complains when it is forgotten
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert capfd.readouterr().err == ""
