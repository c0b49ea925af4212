"""A page on the loopback interface that shows a recorded screen: as it grows, or as a replay of what is over.

It follows the recording's files, so it needs no VNC password and takes nothing from the run. Whoever opens it must know the
random word in its address, and must have asked for it by a loopback name (a page elsewhere that resolves its own name to
127.0.0.1 has not). Nothing is loaded from anywhere else. What a guest wrote is only ever set as text.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

from harness.screen.annotations import Annotator, plain, said
from harness.screen.timeline import EndRecord, FrameRecord, Header, MarkRecord, Record, Recording, Tail

EVERY = 0.2
"""Seconds between two looks at the files."""
_ALIVE = 10.0
_MOST_STREAMS = 8
_MOST_BATCH = 400
_MOST_TILE = 2 << 20
_LINES = ("start", "event")


class LivePage:
    """Serves one recording.

    Args:
        locate: The recording's folder; None as long as there is none (the Mac boots).
        events: The event stream beside it, for the last lines; None where there is none.
        labels: What it is of, until the recording's own header says so.

    Attributes:
        url: Where to look; holds the random word.
    """

    def __init__(
        self,
        locate: Callable[[], Path | None],
        *,
        events: Path | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.locate = locate
        self.events = events
        self.labels = dict(labels or {})
        self.token = secrets.token_urlsafe(18)
        self.stopped = threading.Event()
        self.streams = threading.BoundedSemaphore(_MOST_STREAMS)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.hosts = (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        self.url = f"http://127.0.0.1:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer until `close` is called from another thread, or an exception (Ctrl-C) ends it."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self.stopped.set()
            self._server.server_close()

    def close(self) -> None:
        """End `serve`."""
        self.stopped.set()
        self._server.shutdown()

    def page(self, nonce: str) -> str:
        """The page itself."""
        text = resources.files("harness.reports").joinpath("live_page.html").read_text(encoding="utf-8")
        return text.replace("{{nonce}}", nonce).replace("{{labels}}", _in_script(self.labels))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sysext"
    sys_version = ""
    timeout = 30

    def __init__(self, page: LivePage, *arguments: Any) -> None:
        self.page = page
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer."""
        if self.headers.get("Host", "") not in self.page.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "asked for by another name")
            return
        _, token, *rest = self.path.partition("?")[0].split("/", 2)
        if not hmac.compare_digest(token.encode(), self.page.token.encode()) or not rest:
            self._refuse(HTTPStatus.NOT_FOUND, "not here")
            return
        where = rest[0]
        if where == "":
            nonce = secrets.token_urlsafe(12)
            policy = (
                f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
            self._answer(
                self.page.page(nonce).encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy}
            )
        elif where == "stream":
            self._stream()
        elif where.startswith("tile/"):
            self._tile(where.removeprefix("tile/"))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not here")

    def _tile(self, name: str) -> None:
        folder = self.page.locate()
        data = b""
        if folder is not None and len(name) == 32 and all(char in "0123456789abcdef" for char in name):
            try:
                with Recording(folder).tile(name).open("rb") as file:
                    data = file.read(_MOST_TILE + 1)
            except OSError:
                data = b""
        if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) > _MOST_TILE:
            self._refuse(HTTPStatus.NOT_FOUND, "no such tile")
            return
        self._answer(data, "image/png", {"Cache-Control": "private, max-age=86400, immutable"})

    def _stream(self) -> None:
        if not self.page.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
            return
        try:
            self._head(HTTPStatus.OK, "text/event-stream", {"Cache-Control": "no-store", "Connection": "close"})
            self.close_connection = True
            follower = Follower(self.page.locate, self.page.events)
            told = time.monotonic()
            while not self.page.stopped.is_set():
                messages = follower.read()
                for message in messages:
                    self.wfile.write(b"data: " + json.dumps(message).encode() + b"\n\n")
                if messages or time.monotonic() - told > _ALIVE:
                    if not messages:
                        self.wfile.write(b": still here\n\n")
                    self.wfile.flush()
                    told = time.monotonic()
                if not messages:
                    self.page.stopped.wait(EVERY)
        except OSError:
            self.close_connection = True  # the viewer has gone
        finally:
            self.page.streams.release()

    def _answer(self, body: bytes, kind: str, more: Mapping[str, str]) -> None:
        self._head(HTTPStatus.OK, kind, {"Cache-Control": "no-store", **more, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        body = f"{why}\n".encode()
        self._head(status, "text/plain; charset=utf-8", {"Content-Length": str(len(body)), "Connection": "close"})
        self.wfile.write(body)
        self.close_connection = True

    def _head(self, status: HTTPStatus, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**always, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the address holds the word."""


class Follower:
    """Turns what is new in a recording, and in the event stream beside it, into messages for the page.

    A message is a JSON-like dict: `reset` (forget everything), `header`, `items` (frames and marks with the shapes to draw),
    `lines` (the last events as text), `end`.
    """

    def __init__(self, locate: Callable[[], Path | None], events: Path | None) -> None:
        self._locate = locate
        self._recording: Recording | None = None
        self._annotator = Annotator()
        self._events = Tail(events) if events is not None else None

    def read(self) -> list[dict[str, Any]]:
        """What has come since the last call; empty where nothing has."""
        messages: list[dict[str, Any]] = []
        folder = self._locate()
        if folder is not None and (self._recording is None or self._recording.folder != folder):
            self._recording, self._annotator = Recording(folder), Annotator()
            messages.append({"kind": "reset"})
        if self._recording is not None:
            fresh, records = self._recording.poll()
            self._recording.records.clear()  # it checks what follows; the page keeps them
            if fresh:
                self._annotator = Annotator()
                messages.append({"kind": "reset"})
            messages += self._told(records)
        messages += self._said()
        return messages

    def _told(self, records: list[Record]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        items: list[dict[str, Any]] = []
        for record in records:
            if isinstance(record, Header):
                labels = {plain(key, 40): plain(value, 200) for key, value in list(record.labels.items())[:20]}
                head = {"machine": plain(record.machine, 200), "simulated": record.simulated, "time": record.time}
                messages.append({"kind": "header", **head, "tile": record.tile, "labels": labels})
            elif isinstance(record, EndRecord):
                items.append({"kind": "end", "t": record.t})
            else:
                items.append(self._item(record))
        messages += [
            {"kind": "items", "items": items[start : start + _MOST_BATCH]}
            for start in range(0, len(items), _MOST_BATCH)
        ]
        return messages

    def _item(self, record: FrameRecord | MarkRecord) -> dict[str, Any]:
        shapes = [[shape.kind, *shape.box, plain(shape.text, 80)] for shape in self._annotator.feed(record)]
        base = {"n": record.n, "t": record.t, "time": record.time, "shapes": shapes}
        if isinstance(record, MarkRecord):
            return {"kind": "mark", **base, "what": plain(record.what, 40), "text": plain(said(record), 300)}
        return {"kind": "frame", **base, "size": record.size, "tiles": record.tiles, "whole": record.whole}

    def _said(self) -> list[dict[str, Any]]:
        if self._events is None:
            return []
        _, lines = self._events.read()
        told = []
        for line in lines[-200:]:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or record.get("type") not in _LINES:
                continue
            attributes = record.get("attributes")
            some = list(attributes.items())[:4] if isinstance(attributes, dict) else []
            text = " ".join([str(record.get("name")), *(f"{key}={value}" for key, value in some)])
            told.append({"time": plain(str(record.get("time")), 40), "text": plain(text, 200)})
        return [{"kind": "lines", "lines": told}] if told else []


def _in_script(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
