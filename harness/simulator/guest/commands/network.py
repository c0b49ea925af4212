"""curl, dscacheutil, dig, nslookup, host: traffic from inside the guest, through whatever extension is in between.

Exit codes and messages are those of curl(1), dig(1), nslookup(1), host(1) and dscacheutil(1).
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from harness.simulator.guest.commands.arguments import EX_USAGE, UsageMistake, complain, parse, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.processes import GuestProcess
from harness.simulator.guest.traffic import PAGES
from harness.simulator.interfaces import CommandIO

_FLAGS = ("-s", "-S", "-f", "-L", "-I", "-k", "-v", "-4", "-6", "-i", "-q", "--silent", "--show-error", "--fail", "--location", "--head",
          "--insecure", "--verbose", "--ipv4", "--ipv6", "--include", "--fail-with-body", "--no-keepalive", "--compressed")  # fmt: skip
_VALUES = ("-o", "-m", "-w", "-H", "-A", "-X", "-d", "-x", "-b", "-c", "-u", "--output", "--max-time", "--connect-timeout", "--write-out",
           "--header", "--user-agent", "--request", "--data", "--noproxy", "--retry", "--retry-delay", "--resolve", "--interface", "--url")  # fmt: skip
_RESOLVER = "192.168.64.1"
_UNANSWERED = 5.0
"""Seconds that a resolver is waited for, as often as it is asked."""
_CONNECT = 75.0
"""Seconds after which macOS gives a connection up that nobody answers."""


async def curl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`curl [-sSfLI] [-o FILE] [-m SECONDS] [-w FORMAT] URL…`: the built-in pages; HTTP and HTTPS alike."""
    words = [piece for word in argv[1:] for piece in _split(word)]
    try:
        given = parse(words, flags=_FLAGS, values=_VALUES)
    except UsageMistake as error:
        await complain(
            io,
            f"curl: {str(error).replace('unrecognized', 'unknown')}\ncurl: try 'curl --help' or 'curl --manual' for more information",
        )
        return 2
    urls = [*given.operands, *([given.value("--url") or ""] if given.value("--url") else [])]
    if not urls:
        await complain(
            io, "curl: (2) no URL specified\ncurl: try 'curl --help' or 'curl --manual' for more information"
        )
        return 2
    quiet = given.has("-s", "--silent") and not given.has("-S", "--show-error")
    most = _seconds(given.value("-m", "--max-time"), 0.0)
    patience = _seconds(given.value("--connect-timeout"), _CONNECT)
    code = 0
    for url in urls:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        limit = min(patience, most or patience)
        code, said, status, body = await _fetch(
            guest, parts.scheme, parts.hostname or "", _port(parts), parts.path or "/", limit
        )
        if not code and status >= 400 and given.has("-f", "--fail", "--fail-with-body"):
            code, said = 22, f"The requested URL returned error: {status}"
        if code and not quiet:
            await complain(io, f"curl: ({code}) {said}")
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        content = head if given.has("-I", "--head") else head + body if given.has("-i", "--include") else body
        if not code or (code == 22 and given.has("--fail-with-body")):
            await _put(guest, io, given.value("-o", "--output"), content.encode())
        form = given.value("-w", "--write-out")
        if form is not None:
            values = {
                "http_code": f"{status:03d}",
                "response_code": f"{status:03d}",
                "exitcode": str(code),
                "size_download": str(len(body)),
                "url_effective": url,
                "time_total": "0.021374",
            }
            await io.stdout(_written(form, values).encode())
    return code


def _written(form: str, values: dict[str, str]) -> str:
    """Curl's `--write-out`; a variable that is not known here is empty."""
    text = re.sub(r"%\{(\w+)\}", lambda match: values.get(match[1], ""), form)
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _split(word: str) -> list[str]:
    """`-sSfo` as curl reads it: the last letter may take the next word; `-m5` has its value behind it."""
    if re.fullmatch(r"-[a-zA-Z46]{2,}", word):
        return [f"-{letter}" for letter in word[1:]]
    match = re.fullmatch(r"(-[mowHAXdxbcu])(.+)", word)
    return [match[1], match[2]] if match is not None and not word.startswith("--") else [word]


def _seconds(text: str | None, usual: float) -> float:
    return float(text) if text is not None and re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text) and float(text) > 0 else usual


def _port(parts: object) -> int:
    try:
        port = getattr(parts, "port", None)
    except ValueError:
        port = None
    return port or (443 if getattr(parts, "scheme", "") == "https" else 80)


async def _put(guest: MacGuest, io: CommandIO, name: str | None, content: bytes) -> None:
    if name in (None, "-"):
        await io.stdout(content)
    elif name != "/dev/null":
        guest.disk.path(name, io.cwd).write_bytes(content)


async def _fetch(
    guest: MacGuest, scheme: str, host: str, port: int, path: str, limit: float
) -> tuple[int, str, int, str]:
    """(curl's exit code, its words, HTTP status, body)."""
    if scheme not in ("http", "https"):
        return 1, f'Protocol "{scheme}" not supported', 0, ""
    client = _self(guest, "curl")
    late = f"{int(limit * 1000) + 2} milliseconds"
    address = await guest.traffic.look_up(host, client)
    if address is None:
        await asyncio.sleep(limit)
        return 28, f"Resolving timed out after {late}", 0, ""
    if not address:
        return 6, f"Could not resolve host: {host}", 0, ""
    known = any(site == host.lower() for site, _path in PAGES)
    if address.startswith("127.") or not known:
        return 7, f"Failed to connect to {host} port {port} after 1 ms: Couldn't connect to server", 0, ""
    if not await guest.traffic.connect(host, port, client):
        await asyncio.sleep(limit)
        return 28, f"Connection timed out after {late}", 0, ""
    page = PAGES.get((host.lower(), path))
    return 0, "", 200 if page is not None else 404, page or "<html><body>Not Found</body></html>\n"


def _self(guest: MacGuest, name: str) -> GuestProcess | None:
    found = guest.processes.named(name)
    return found[-1] if found else None


async def _ask(guest: MacGuest, name: str, client: str, *, tries: int = 2) -> str | None:
    """An address, "" for a name that is not there, None after the resolver's time is over."""
    address = await guest.traffic.look_up(name, _self(guest, client))
    if address is None:
        await asyncio.sleep(_UNANSWERED * tries)
    return address


async def dscacheutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`-q host -a name NAME`, `-q user -a name NAME`, `-flushcache`. Ends with 0 whatever it finds."""
    words = argv[1:]
    if words[:1] in (["-flushcache"], ["-cachedump"], ["-statistics"], ["-configuration"]):
        return 0
    if words[:1] != ["-q"] or len(words) < 2:
        await complain(
            io, "Usage: dscacheutil -h\n       dscacheutil -q category [-a key value]\n       dscacheutil -flushcache"
        )
        return EX_USAGE
    value = words[4] if len(words) >= 5 and words[2] == "-a" else ""
    if words[1] == "host" and value:
        address = await _ask(guest, value, "dscacheutil")
        if address:
            await say(io, f"name: {value}\nip_address: {address}\n")
    elif words[1] == "user":
        for name in guest.accounts.names():
            account = guest.accounts.get(name)
            if account is not None and value in ("", name):
                await say(
                    io,
                    f"name: {name}\npassword: ********\nuid: {account.uid}\ngid: 20\ndir: {account.home}\nshell: {account.shell}\ngecos: {account.real_name}\n",
                )
    return 0


async def nslookup(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`nslookup NAME [SERVER]`."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    if not words:
        return 0
    server = words[1] if len(words) > 1 else _RESOLVER
    address = await _ask(guest, words[0], "nslookup", tries=3)
    if address is None:
        await say(io, ";; connection timed out; no servers could be reached\n")
        return 1
    await say(io, f"Server:\t\t{server}\nAddress:\t{server}#53\n")
    if not address:
        await say(io, f"** server can't find {words[0]}: NXDOMAIN\n")
        return 1
    await say(io, f"Non-authoritative answer:\nName:\t{words[0]}\nAddress: {address}\n")
    return 0


async def host(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`host NAME`."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    if not words:
        await complain(io, "Usage: host [-aCdilrTvVw] [-c class] [-N ndots] [-t type] [-W time] hostname [server]")
        return 1
    address = await _ask(guest, words[0], "host")
    if address is None:
        await say(io, ";; connection timed out; no servers could be reached")
        return 1
    await say(io, f"{words[0]} has address {address}" if address else f"Host {words[0]} not found: 3(NXDOMAIN)")
    return 0 if address else 1


async def dig(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`dig [@SERVER] NAME [TYPE] [+short] [+time=N] [+tries=N]`: addresses only."""
    server, name, short, patience, tries = _RESOLVER, "", False, 5.0, 3
    for word in argv[1:]:
        if word.startswith("@"):
            server = word[1:]
        elif word.startswith("+"):
            key, _, value = word[1:].partition("=")
            short = short or key == "short"
            patience = _seconds(value, patience) if key in ("time", "timeout") else patience
            tries = int(value) if key == "tries" and re.fullmatch(r"[1-9]", value) else tries
        elif not word.startswith("-") and word.upper() not in ("A", "IN", "AAAA", "ANY") and not name:
            name = word
    address = await guest.traffic.look_up(name or "example.com", _self(guest, "dig"))
    if address is None:
        await asyncio.sleep(patience * tries)
        await say(io, ";; connection timed out; no servers could be reached")
        return 9
    if short:
        if address:
            await say(io, address)
        return 0
    status = "NOERROR" if address else "NXDOMAIN"
    number = sum(name.encode()) % 65536
    answer = f"\n;; ANSWER SECTION:\n{name}.\t\t300\tIN\tA\t{address}\n" if address else ""
    await say(io, f"\n; <<>> DiG 9.10.6 <<>> {' '.join(argv[1:])}\n;; global options: +cmd\n;; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {status}, id: {number}\n"
                  f";; flags: qr rd ra; QUERY: 1, ANSWER: {int(bool(address))}, AUTHORITY: 0, ADDITIONAL: 1\n\n;; QUESTION SECTION:\n;{name}.\t\t\tIN\tA\n{answer}\n"
                  f";; Query time: 12 msec\n;; SERVER: {server}#53({server})\n")  # fmt: skip
    return 0
