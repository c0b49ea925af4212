"""Sleep of a `tart run` as SSH meets it: silence, no refusal; and everything goes on afterwards."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest

from harness.simulator.addresses import reserve_port
from harness.simulator.disk import GuestDisk, make_skeleton
from harness.simulator.faults import FaultSet
from harness.simulator.interfaces import CommandIO
from harness.simulator.journal import MemoryJournal
from harness.simulator.ssh import Door


class Guest:
    """Runs `echo` only."""

    def __init__(self, disk: GuestDisk) -> None:
        self.disk = disk
        self.ran: list[list[str]] = []

    async def execute(self, argv: list[str], io: CommandIO) -> int:
        self.ran.append(argv)
        await io.stdout((" ".join(argv[1:]) + "\n").encode())
        return 0

    def ssh_login(self, user: str, password: str) -> bool:
        return (user, password) == ("admin", "admin")


@pytest.mark.parametrize("reconnect", [False, True])
def test_a_sleeping_guest_is_silent_and_answers_when_it_wakes(tmp_path: Path, *, reconnect: bool) -> None:
    make_skeleton(tmp_path)
    disk = GuestDisk(tmp_path)

    async def body() -> None:
        holder: socket.socket = reserve_port("127.0.0.1")
        door = Door(holder, disk, MemoryJournal(), FaultSet())
        door.guest = guest = Guest(disk)  # type: ignore[assignment]
        await door.open()
        host, port = holder.getsockname()[:2]

        def connecting() -> asyncio.Task[asyncssh.SSHClientConnection]:
            return asyncio.ensure_future(
                asyncssh.connect(host, port, username="admin", password="admin", known_hosts=None, config=None, client_keys=None)
            )  # fmt: skip

        connection = await connecting()
        assert (await connection.run("argv one")).stdout == "one\n"
        door.hush()
        assert not door.awake.is_set()
        waiting = connecting() if reconnect else asyncio.ensure_future(connection.run("argv two"))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done  # neither refused nor answered
        assert len(guest.ran) == 1
        await door.wake()
        if reconnect:
            other = await asyncio.wait_for(waiting, 20)
            assert isinstance(other, asyncssh.SSHClientConnection)
            other.close()
            waiting = asyncio.ensure_future(connection.run("argv two"))
        answer = await asyncio.wait_for(waiting, 20)
        assert isinstance(answer, asyncssh.SSHCompletedProcess)
        assert answer.stdout == "two\n"
        connection.close()
        door.shut()
        holder.close()

    asyncio.run(asyncio.wait_for(body(), 60))
