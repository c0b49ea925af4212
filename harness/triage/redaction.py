"""Who and where a Mac is, masked in text: names, accounts, hosts, addresses, serials, networks, tokens.

Two passes. `learn` reads everything and remembers values that stand behind telling words (`SSID: …`, `/Users/…`, a host in a
syslog line); `mask` replaces those wherever they stand, and what shows by its form what it is (addresses, mail, tokens).
The same value always gets the same pseudonym, of a like form, so that what is left still parses and can be followed. Pseudonyms
come from a random key: those of two runs cannot be joined unless the map was kept.

What identifies software stays: bundle and team identifiers, build and slice UUIDs, versions, boot sessions, Apple's own names.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import re
import secrets
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from harness.triage.nearby import Near

KINDS: Final = ("name", "user", "host", "email", "ipv4", "ipv6", "mac", "serial", "udid", "ssid", "token", "word")
MAX_LEARNED: Final = 20_000
MAX_VALUE: Final = 128
MOST_FOUND_SINGLY: Final = 100
"""So many learned words are quicker looked for one by one."""

_GENERIC: Final = frozenset(
    [
        "root", "admin", "administrator", "user", "users", "guest", "shared", "nobody", "daemon", "runner",
        "test", "tester", "mac", "macos", "macbook", "apple", "system", "local", "localhost", "default",
        "home", "staff", "wheel", "null", "nil", "none", "private", "true", "false", "yes", "no", "unknown",
        "library", "applications", "loginwindow", "console", "me", "developer", "build", "builder", "ci",
        "agent", "vagrant", "ubuntu", "public", "deleted", "en0", "en1", "utun", "wifi", "wi-fi", "ethernet",
        "name", "username", "hostname", "owner", "sysextd", "launchd", "kernel", "sysext", "lsa",
        "broadcasthost", "mobile", "_mbsetupuser", "hidden", "everyone", "unavailable", "error", "failed"
    ]
)  # fmt: skip
"""Values that name nobody, and would blot out the text."""
_BEFORE: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
_AFTER: Final = r"(?![A-Za-z0-9])"
_SEPARATOR: Final = r"(?:\\?[\"'])?(?:\)|\])?\s{0,8}(?:=>|[:=])\s{0,8}"
_QUOTED: Final = r"\\?[\"'“‘](?P<q>[^\"“”\\<>\n]{1,128}?)\\?[\"”]"
_SINGLE: Final = r"'(?P<s>[^'\n]{1,64})'"
_PHRASE: Final = r"(?P<p>[^\s,;\"'<>(){}\[\]|=:\\][^\n,;\"<>(){}\[\]|=\\]{0,63})"
_ONE_WORD: Final = r"(?P<t>[^\s,;\"'<>(){}\[\]|=:\\]{1,128})"

_KEYS: Final[Mapping[str, tuple[str, bool]]] = {
    "serial": (r"serial[ _-]?(?:number|num|no\.?)?(?:[ _-]?\(system\))?|\w{0,40}SerialNumber(?:Key)?", False),
    "udid": (
        r"udid|device[ _-]?(?:udid|uuid|identifier|id)|(?:hardware|platform|machine)[ _-]?uuid|IOPlatformUUID|"  # noqa: ISC004
        r"crash[ _-]?reporter[ _-]?key|anonymous[ _-]?uuid|(?:unique)?[ _-]?chip[ _-]?id|ecid|prov(?:isioning)?[ _-]?udid",
        False,
    ),
    "host": (
        r"(?:local[ _-]?)?host[ _-]?name|computer[ _-]?name|machine[ _-]?name|device[ _-]?name|kern\.hostname|nodename",
        True,
    ),
    "ssid": (
        r"ssid(?:_str|[ _-]?name)?|(?:current[ _-])?(?:wi-?fi|airport)[ _-]?network(?:[ _-]?name)?|network[ _-]?name",
        True,
    ),
    "name": (
        r"real[ _-]?name|(?:user[ _-]?)?full[ _-]?(?:user)?[ _-]?name|gecos|owner[ _-]?name|\w{0,40}:RealName|"  # noqa: ISC004
        r"customer[ _-]?name",
        True,
    ),
    "user": (
        r"(?:console|login|sudo|current|remote)[ _-]?user(?:[ _-]?name)?|user[ _-]?(?:name|account)|"  # noqa: ISC004
        r"(?:short|login|account|record)[ _-]?name|logname|user(?=\s{0,2}=)",
        False,
    ),
    "token": (
        r"(?:access|refresh|auth|id|api|session|bearer|secret|private)?[ _-]?"  # noqa: ISC004
        r"(?:token|secret|api[ _-]?key|passwd|password|passphrase|passcode)(?:[ _-]?value)?",
        False,
    ),
}
"""Kind to the words before a value, and whether the value may have blanks."""


def _joined(*pairs: tuple[str, str]) -> tuple[str, ...]:
    """Two words as they may be joined in a key."""
    return tuple(f"{first}{glue}{second}" for first, second in pairs for glue in ("", " ", "_", "-"))


_TRIGGERS: Final[Mapping[str, tuple[str, ...]]] = {
    "serial": ("serial",),
    "udid": ("udid", "device", "hardware", "platform", "machine", "reporter", "anonymous", "chip", "ecid"),
    "host": ("host", "computer", "machine", "device", "nodename"),
    "ssid": _joined(("network", "name"), ("fi", "network"), ("airport", "network")),
    "name": (
        "gecos",
        *_joined(("real", "name"), ("full", "name"), ("full", "user"), ("owner", "name"), ("customer", "name")),
    ),
    "user": (
        *(
            "user name",
            "username",
            "user_name",
            "user-name",
            "user account",
            "useraccount",
            "user_account",
            "user-account",
        ),
        *("console", "login", "sudo", "current", "remote", "short", "account", "record", "logname", "user=", "user ="),
        *("user  =", "user\t="),
    ),
    "token": ("token", "secret", "api", "passw", "passp", "passc"),
}
"""In small letters: a text without any of them has nothing of that kind, and need not be searched at length."""
_LOCAL_ENDS: Final = (".local", ".lan", ".internal", ".intranet", ".corp", ".home.arpa", ".fritz.box")
_TOKEN_STARTS: Final = (
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "ASIA",
    "sk-",
    "eyJ",
    "AIza",
)
_BARE_KEY: Final = {kind: re.compile(rf"(?:{words})", re.IGNORECASE) for kind, (words, _) in _KEYS.items()}


def _behind(kind: str) -> re.Pattern[str]:
    words, blanks = _KEYS[kind]
    value = f"(?:{_QUOTED}|{_SINGLE}|{_PHRASE if blanks else _ONE_WORD})"
    xml = r"</key>\s{0,200}<(?:string|data)>\s{0,40}(?P<x>[^<\n]{1,128})"
    # 'BSSID' and 'hasToken' are other words: the key begins where a word does.
    return re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:{words})(?:{xml}|{_SEPARATOR}{value})", re.IGNORECASE)


_SSID: Final = re.compile(r"ssid(?<!processid)")
"""The records of a log have a `processID` each."""
_BEHIND: Final = {
    kind: Near(_behind(kind), words=_TRIGGERS[kind], small_hints=(_SSID,) if kind == "ssid" else ()) for kind in _KEYS
}
_PLACES: Final[tuple[tuple[str, Near], ...]] = (
    ("user", Near(re.compile(r"(?:\\?/)(?:Users|home)(?:\\?/)(?P<t>[^\s/\\\"'<>:,;()\[\]*?{}|]{1,64})"), words=("users", "home"), before=2, after=80)),
    ("user", Near(re.compile(r"\b[ug]id=\d{1,9}\((?P<t>[^()\s]{1,64})\)"), words=("id=",), before=2, after=90)),
    ("host", Near(re.compile(r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?P<t>[A-Za-z0-9][\w.-]{0,80}) [^\s\[]{1,80}\[\d", re.MULTILINE), hints=(re.compile(r":\d\d:\d\d "),), before=12, after=200)),
    ("host", Near(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3,9}[+-]\d{4} {1,2}(?P<t>[A-Za-z0-9][\w.-]{0,80}) [^\s\[]{1,80}\[\d", re.MULTILINE), hints=(re.compile(r":\d\d:\d\d[.,]\d"),), before=16, after=220)),
    ("name", Near(re.compile(r"\b(?:Apple Development|Mac Developer|iPhone Developer|Apple Distribution): (?P<p>[^\n\"()<>@]{2,80}?) \([A-Z0-9]{10}\)"), words=("apple development:", "mac developer:", "iphone developer:", "apple distribution:"), before=1, after=130)),
    ("host", Near(re.compile(r"\b(?P<p>[A-Z][\w.-]{1,40}['’]s (?:MacBook(?: (?:Pro|Air))?|Mac(?: (?:mini|Studio|Pro))?|iMac|Virtual Machine))"), words=("'s mac", "’s mac", "'s imac", "’s imac", "'s virtual machine", "’s virtual machine"), before=50, after=70)),
)  # fmt: skip
"""Where a value stands that no word announces."""

_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_TOKENS: Final = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|glpat-[\w-]{16,64}|xox[abposr]-[\w-]{10,200}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|sk-[A-Za-z0-9_-]{20,200}|eyJ[\w-]{8,4096}\.[\w-]{8,8192}(?:\.[\w-]{0,4096})?|AIza[\w-]{30,60})"
)  # fmt: skip
_BEARER: Final = re.compile(r"\b(?P<k>Bearer|Basic|Negotiate)(?P<g>\s{1,4})(?P<v>[A-Za-z0-9._~+/=-]{8,8192})")
_USERINFO: Final = Near(
    re.compile(
        r"(?P<k>\b[a-z][a-z0-9+.-]{1,20}:\\?/\\?/)(?P<v>[^\s/@:\"'<>\\]{1,256}(?::[^\s/@\"'<>\\]{0,256})?)@",
        re.IGNORECASE,
    ),
    words=("@",),
    before=640,
    after=16,
)
_QUERY: Final = re.compile(
    r"(?P<k>[?&](?:access_token|token|key|api_key|apikey|sig|signature|password|secret|code)=)(?P<v>[^&\s\"'<>\\]{4,4096})",
    re.IGNORECASE,
)
_EMAIL: Final = Near(
    re.compile(
        r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9])"
    ),
    words=("@",),
    before=80,
    after=512,
)
_MAC: Final = Near(
    re.compile(
        r"(?<![0-9A-Fa-f:.-])(?:[0-9A-Fa-f]{1,2}:){5}[0-9A-Fa-f]{1,2}(?![0-9A-Fa-f:])|(?<![0-9A-Za-z-])(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}(?![0-9A-Za-z-])"
    ),
    hints=(
        re.compile(r":[0-9A-Fa-f]{1,2}:[0-9A-Fa-f]{1,2}:[0-9A-Fa-f]{1,2}:"),
        re.compile(r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-"),
    ),
    before=16,
    after=48,
)
_IPV4: Final = Near(
    re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)"),
    hints=(re.compile(r"\.\d{1,3}\.\d{1,3}\.\d"),),
    before=16,
    after=48,
)
_IPV6: Final = Near(
    re.compile(
        r"(?<![0-9A-Za-z:.])(?=[0-9A-Fa-f:]{0,39}[0-9])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![0-9A-Za-z:])"
    ),
    words=("::",),  # or five groups in a row: less is a time of day
    hints=(re.compile(r":[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:"),),
    after=96,
)
_UDID: Final = Near(
    re.compile(r"(?<![0-9A-Fa-f-])[0-9A-F]{8}-[0-9A-F]{16}(?![0-9A-Fa-f-])"),
    hints=(re.compile(r"-[0-9A-F]{16}"),),
    before=16,
    after=48,
)
_LOCAL: Final = Near(
    re.compile(
        r"(?<![\w./-])(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,3}(?:local|lan|localdomain|internal|intranet|corp|home\.arpa|fritz\.box)(?![\w-]|\.\w)",
        re.IGNORECASE,
    ),
    words=_LOCAL_ENDS,
    before=256,
    after=256,
)
_ESCAPED: Final = re.compile(r"(?<!\\)((?:\\\\)*)((?:\\u[0-9a-fA-F]{4})+)")
_MODEL: Final = re.compile(
    r"(?:utun|en|awdl|lo|bridge|llw|ipsec|ap|vmenet|gif|stf|anpi)\d{1,3}|(?:MacBook|iMac|Mac|VirtualMac)(?: (?:Pro|Air|mini|Studio|Neo))?(?:\d+,\d+)?",
    re.IGNORECASE,
)
"""Interfaces and models: every Mac has such."""
_VERSION: Final = re.compile(r"(?:\b(?:version|build|ver)\W{0,4}|\bv)$", re.IGNORECASE)
_PSEUDONYM: Final = re.compile(r"(?:name|user|host|ssid|token|word|serial|udid)-[0-9a-f]{8}", re.IGNORECASE)


class Masker:
    """Learns, then masks. The same object for all files of one package.

    Args:
        words: More texts to mask (a product's code name, a person).
        key: Of the pseudonyms; a fresh random one by default.
        known: Pseudonyms of an earlier run: kind to value to pseudonym.

    Attributes:
        counts: How often each kind was replaced.
    """

    def __init__(
        self,
        words: Iterable[str] = (),
        *,
        key: bytes | None = None,
        known: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.key = key or secrets.token_bytes(32)
        self.counts: Counter[str] = Counter()
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._words: dict[str, tuple[str, str]] = {}
        self._pattern: re.Pattern[str] | None = None
        self._small = ("", "")
        for kind, values in (known or {}).items():
            for value, pseudonym in values.items():
                self._given[(kind, value)] = pseudonym
                self._taken.add(pseudonym)
                if kind in ("name", "user", "host", "serial", "udid", "ssid", "word"):
                    self._remember(kind, value)
        for word in words:
            self._remember("word", word)

    @property
    def distinct(self) -> dict[str, int]:
        """How many different values of each kind have a pseudonym."""
        return dict(Counter(kind for kind, _ in self._given))

    def as_map(self) -> dict[str, Any]:
        """Key and pseudonyms. It holds what was masked: for whoever masks again, not for whoever gets the result."""
        pseudonyms: dict[str, dict[str, str]] = {}
        for (kind, value), pseudonym in self._given.items():
            pseudonyms.setdefault(kind, {})[value] = pseudonym
        return {"key": self.key.hex(), "pseudonyms": pseudonyms}

    def learn(self, text: str) -> None:
        """Remember what stands behind telling words. Give it everything before the first `mask`."""
        text = _plain(text)
        small = text.lower()
        for kind, near in _BEHIND.items():
            if kind != "token":  # a token is masked where it stands: a password may be an ordinary word
                for found in near.matches(text, small):
                    self.learn_value(kind, _value(found))
        for kind, near in _PLACES:
            for found in near.matches(text, small):
                self.learn_value(kind, _value(found))

    def learn_value(self, kind: str, value: str) -> None:
        """Remember one value, unless it is a generic one or cannot be of that kind."""
        value = value.strip().strip(".:").strip()
        if len(value) > MAX_VALUE or len(self._words) >= MAX_LEARNED or not _telling(kind, value):
            return
        self._remember(kind, value)
        if kind in ("host", "name", "ssid"):
            bonjour = re.sub(r"['’]", "", value).replace(" ", "-")
            for variant in (bonjour, bonjour.lower(), urllib.parse.quote(value), html.escape(value)):
                if variant != value:
                    self._remember(kind, variant, like=value)
        if kind == "host" and value.casefold().endswith((".local", ".lan")):
            self.learn_value("host", value.rsplit(".", 1)[0])

    def mask(self, text: str) -> str:
        """The text without them."""
        text = _plain(text)
        small = text.lower()
        if "-----begin" in small:
            text = _KEY_BLOCK.sub(lambda found: self._as("token", found.group()), text)
        if any(word in text for word in ("Bearer", "Basic", "Negotiate")):
            text = _BEARER.sub(lambda f: f.group("k") + f.group("g") + self._as("token", f.group("v")), text)
        if "=" in small and ("?" in small or "&" in small):
            text = _QUERY.sub(lambda f: f.group("k") + self._as("token", f.group("v")), text)
        text = self._near(_USERINFO, lambda f: f.group("k") + self._as("token", f.group("v")) + "@", text)
        if any(start in text for start in _TOKEN_STARTS):
            text = _TOKENS.sub(lambda found: self._as("token", found.group()), text)
        text = self._near(_BEHIND["token"], self._token_behind, text)
        text = self._near(_EMAIL, self._email, text)
        text = self._near(_MAC, self._mac, text)
        text = self._near(_IPV6, self._ipv6, text)
        text = self._near(_IPV4, self._ipv4, text)
        text = self._near(_UDID, lambda found: self._as("udid", found.group()), text)
        text = self._near(_LOCAL, self._local, text)
        return self._mask_words(text)

    def _near(self, near: Near, replacement: Callable[[re.Match[str]], str], text: str) -> str:
        if self._small[0] is not text:
            self._small = (text, text.lower())
        return near.sub(replacement, text, self._small[1])

    def mask_value(self, key: str, value: str) -> str:
        """A value whose key is known, as in a property list."""
        kind = kind_of_key(key)
        if kind is not None and _telling(kind, value.strip()):
            return self._as(kind, value.strip())
        return self.mask(value)

    def _mask_words(self, text: str) -> str:
        if not self._words:
            return text
        if self._pattern is None:
            longest_first = sorted(self._words, key=len, reverse=True)
            apostrophes = "|".join(re.escape(word).replace("'", "['’]") for word in longest_first)
            self._pattern = re.compile(f"{_BEFORE}(?:{apostrophes}){_AFTER}", re.IGNORECASE)

        def replaced(found: re.Match[str]) -> str:
            entry = self._words.get(found.group().casefold().replace("’", "'"))
            return self._as(*entry) if entry is not None else found.group()

        if len(self._words) > MOST_FOUND_SINGLY or not all(word.isascii() for word in self._words):
            return self._pattern.sub(replaced, text)
        near = Near(self._pattern, words=tuple(self._words), before=8, after=2 * MAX_VALUE)
        return near.sub(replaced, text, text.lower().replace("’", "'"))

    def _remember(self, kind: str, value: str, *, like: str = "") -> None:
        folded = value.casefold().replace("’", "'")
        if folded and folded not in self._words:
            self._words[folded] = (kind, like or value)
            self._pattern = None

    def _as(self, kind: str, value: str) -> str:
        """The pseudonym; counted. A pseudonym is its own."""
        if value in self._taken:
            return value
        self.counts[kind] += 1
        place = (kind, value.casefold().replace("’", "'") if kind != "token" else value)
        pseudonym = self._given.get(place)
        if pseudonym is None:
            pseudonym = self._fresh(kind, place[1])
            self._given[place] = pseudonym
            self._taken.add(pseudonym)
        return pseudonym

    def _fresh(self, kind: str, value: str) -> str:
        for attempt in range(1000):
            digest = hmac.digest(self.key, f"{kind}|{attempt}|{value}".encode(errors="surrogateescape"), hashlib.sha256)
            pseudonym = _SHAPES[kind](digest)
            if pseudonym not in self._taken and pseudonym.casefold() != value:
                return pseudonym
        return f"{kind}-{digest.hex()}"

    def _token_behind(self, found: re.Match[str]) -> str:
        value = _value(found)
        if (
            len(value) < 4
            or value.casefold() in _GENERIC
            or _PSEUDONYM.search(value)
            or value.startswith(("<private", "$", "***"))
        ):
            return found.group()
        whole = found.group()
        place = whole.rindex(value)
        return whole[:place] + self._as("token", value) + whole[place + len(value) :]

    def _email(self, found: re.Match[str]) -> str:
        domain = found.group().split("@", 1)[1]
        if re.match(r"\d{1,2}x\.", domain) or domain.endswith(".invalid"):
            return found.group()  # an icon's name; one of ours
        return self._as("email", found.group())

    def _mac(self, found: re.Match[str]) -> str:
        text = found.group()
        digits = re.sub("[:-]", "", text)
        if len(text) < 14 or digits.isdigit() or set(digits) <= {"0"} or set(digits.lower()) == {"f"}:
            return text if digits.isdigit() or len(set(digits.lower())) == 1 else self._as("mac", text)
        return self._as("mac", text)

    def _ipv4(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.IPv4Address(found.group())
        except ValueError:
            return found.group()
        if (
            address.is_loopback
            or address.is_unspecified
            or address.is_multicast
            or int(address) >> 28 == 15
            or int(address) < 1 << 24
        ):
            return found.group()
        if address in _V4:
            return found.group()  # one of ours
        before = found.string[max(0, found.start() - 16) : found.start()]
        after = found.string[found.end() : found.end() + 2]
        if _VERSION.search(before) or (before.endswith("(") and re.match(r"/\d", after)):
            return found.group()  # a version of four numbers: 'Version 1.2.3.4', '(1.2.3.4/5)'
        return self._as("ipv4", str(address))

    def _ipv6(self, found: re.Match[str]) -> str:
        text = found.group()
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified or address.is_multicast or address in _V6:
            return text
        return self._as("ipv6", str(address))

    def _local(self, found: re.Match[str]) -> str:
        text = found.group()
        if text.casefold().startswith(("com.apple.", "localhost.")) or _PSEUDONYM.match(text):
            return text
        base, _, suffix = text.partition(".")
        known = self._words.get(base.casefold())
        return f"{self._as('host', known[1] if known is not None and known[0] == 'host' else base)}.{suffix.rsplit('.', 1)[-1]}"


_V4: Final = ipaddress.IPv4Network("198.18.0.0/15")
_V6: Final = ipaddress.IPv6Network("2001:db8::/32")
_SHAPES: Final[Mapping[str, Callable[[bytes], str]]] = {
    "name": lambda digest: f"name-{digest.hex()[:8]}",
    "user": lambda digest: f"user-{digest.hex()[:8]}",
    "host": lambda digest: f"host-{digest.hex()[:8]}",
    "ssid": lambda digest: f"ssid-{digest.hex()[:8]}",
    "word": lambda digest: f"word-{digest.hex()[:8]}",
    "token": lambda digest: f"token-{digest.hex()[:8]}",
    "serial": lambda digest: f"SERIAL{digest.hex()[:8].upper()}",
    "udid": lambda digest: f"00000000-{digest.hex()[:16].upper()}",
    "email": lambda digest: f"mail-{digest.hex()[:8]}@example.invalid",
    "mac": lambda digest: "02:" + ":".join(f"{byte:02x}" for byte in digest[:5]),
    "ipv4": lambda digest: str(_V4[int.from_bytes(digest[:4]) % (_V4.num_addresses - 2) + 1]),
    "ipv6": lambda digest: str(_V6[int.from_bytes(digest[:8])]),
}
"""Pseudonyms look like what they stand for; addresses are of the ranges for documentation and tests (RFC 2544, RFC 3849)."""


def kind_of_key(key: str) -> str | None:
    """What a value under this key is ("SerialNumber": serial), or None."""
    return next((kind for kind, pattern in _BARE_KEY.items() if pattern.fullmatch(key)), None)


def _plain(text: str) -> str:
    r"""JSON's `\u2019` as the character itself, where that changes no structure, so that names are found in it."""
    if "\\u" not in text:
        return text

    def decoded(found: re.Match[str]) -> str:
        units = re.findall(r"\\u([0-9a-fA-F]{4})", found.group(2))
        raw = b"".join(int(unit, 16).to_bytes(2) for unit in units)
        try:
            characters = raw.decode("utf-16-be")
        except UnicodeDecodeError:
            return found.group()
        if any(char in '"\\/' or not char.isprintable() for char in characters):
            return found.group()
        return found.group(1) + characters

    return _ESCAPED.sub(decoded, text)


def _value(found: re.Match[str]) -> str:
    return next((value for value in found.groupdict().values() if value is not None), "")


def _telling(kind: str, value: str) -> bool:
    """Whether a value can be of that kind, and says anything about anybody."""
    folded = value.casefold()
    if (
        folded in _GENERIC
        or _PSEUDONYM.search(value)
        or folded.startswith(("com.apple.", "<", "(null", "$", "%", "0x"))
    ):
        return False
    if _MODEL.fullmatch(value):
        return False
    if kind == "serial":
        return bool(re.fullmatch(r"[A-Za-z0-9]{8,18}", value)) and any(char.isdigit() for char in value)
    if kind == "udid":
        return bool(re.fullmatch(r"[0-9A-Fa-fx-]{8,64}", value)) and len(set(value)) > 3
    if kind == "user":
        return 3 <= len(value) <= 64 and bool(re.fullmatch(r"[^\W\d][\w.@ +-]*", value))
    if kind == "token":
        return len(value) >= 4
    return len(value) >= 3 and any(char.isalpha() for char in value)
