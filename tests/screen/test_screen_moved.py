"""A screen whose server is elsewhere now, as after a VM was resumed."""

from __future__ import annotations

from harness.screen.frames import is_black
from harness.waiting import Deadline, wait_until


def test_a_screen_goes_on_with_another_server(displays) -> None:
    first, second = displays("15"), displays("15", appearance="dark")
    seen: list[object] = []
    screen = first.connect()
    try:
        screen.subscribe(lambda frame, _: seen.append(frame))
        screen.mark()
        before = screen.frame(Deadline(20))

        screen.move_to("127.0.0.1", second.port, second.PASSWORD)

        after = wait_until(
            lambda: screen.frame(Deadline(20), fresh=True),
            lambda frame: frame.serial > before.serial,
            what="a picture of the other server",
            deadline=Deadline(30),
        )
        assert not is_black(after)
        assert (after.pixels != before.pixels).any()
        assert screen.marked is not None
        assert screen.marked.serial == before.serial
        assert seen  # who subscribed is told of the new pictures
        screen.click(600, 400)
        wait_until(lambda: second.clicks, what="a click at the other server", deadline=Deadline(20))
    finally:
        screen.close()
