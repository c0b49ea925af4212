"""Times of several sources on one clock, so that what came first comes first also where a Mac's clock was wrong or was set.

A Mac's wall clock may be hours off after a boot, and jump when it is set; its log's ticks (`machTimestamp`) go on evenly within
one boot. `Clocks.place` gives each record its moment on that even clock: the wall clock as it was at the first record of
the boot, carried on by ticks. `of_wall` finds the moment of what has no ticks of the log (a crash report's capture time), for which the
wall clock that was valid then is searched; `of_host` that of what the harness noted by the host's clock.

A tick is 125/3 ns on Apple silicon and 1 ns on Intel; which one is told by the log itself. Where neither fits, and where a source
has no ticks, wall times are taken as they are; only a step back that the log announces is made good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from harness.formats.records import CLOCK, Record

RATES: Final = (125 / 3e9, 1e-9)
"""Seconds of a tick: Apple silicon, Intel."""
JUMP: Final = 0.5
"""Seconds by which a clock must leave the ticks at once to have been set; less is jitter and slewing."""
SLEW: Final = 1e-3
"""A clock is corrected smoothly by at most this much a second (macOS: 0.5 ‰)."""
APART: Final = 2.0
"""Seconds between two clocks that are worth a word."""
MAX_BOOTS: Final = 1000
MAX_SEGMENTS: Final = 200
MAX_SAID: Final = 20


@dataclass
class _Segment:
    """A time in which the wall clock went evenly: wall = moment + `shift`; moments from `first` to `last`."""

    shift: float
    first: float
    last: float

    def outside(self, moment: float) -> float:
        """Seconds by which a moment is not in it."""
        return max(0.0, self.first - moment, moment - self.last)


@dataclass
class _Boot:
    """What is known of one boot's clocks."""

    base: float
    """Moment of the tick `ticks`."""
    ticks: int
    segments: list[_Segment]
    rate: float = 0.0
    last_ticks: int = 0
    last_wall: float = 0.0


@dataclass
class _Plain:
    """A source without ticks: its wall clock, and by how much it was set back meanwhile."""

    shift: float = 0.0
    last: float | None = None
    announced: bool = False


@dataclass(frozen=True)
class HostClock:
    """A comparison of the two clocks.

    Attributes:
        at: When, by the host's clock, in seconds since 1970.
        ahead: Seconds by which the Mac's clock was ahead of it (negative: behind).
        within: How exact that is, in seconds.
        boot: Boot session of the Mac, upper case; "" if not known.
    """

    at: float
    ahead: float
    within: float = 1.0
    boot: str = ""


@dataclass
class Clocks:
    """The clocks of one Mac, learnt while its sources are read. Feed it records in their order.

    Attributes:
        hosts: Comparisons with the host's clock, in their order.
        one_log: Whether records come in the order of their boots over several files, too, and not only within each.
    """

    hosts: list[HostClock] = field(default_factory=list)
    one_log: bool = False
    _boots: dict[str, _Boot] = field(default_factory=dict)
    _plain: dict[str, _Plain] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)
    _last: tuple[str, float] = ("", 0.0)

    # -- the log ---------------------------------------------------------------------------------------------------

    def place(self, record: Record) -> float | None:
        """The moment of a record, in seconds; None for one without a date and a zone (those are left to themselves)."""
        if record.kind == CLOCK:
            self._plain.setdefault(record.file, _Plain()).announced = True
            return None
        if record.time is None or record.time.tzinfo is None:
            return None
        wall = record.time.timestamp()
        ticks = record.order[1]
        moment = self._by_ticks(record, wall, ticks) if ticks > 0 and record.boot else self._by_wall(record, wall)
        self._last = (record.file, moment)
        return moment

    def _by_ticks(self, record: Record, wall: float, ticks: int) -> float:
        boot = self._boots.get(record.boot)
        if boot is None:
            if len(self._boots) >= MAX_BOOTS:
                return wall
            return self._first(record, wall, ticks)
        if not boot.rate:
            self._learn(boot, wall, ticks)
            if not boot.rate:
                return wall - boot.segments[-1].shift
        moment = boot.base + (ticks - boot.ticks) * boot.rate
        now = boot.segments[-1]
        shift = wall - moment
        if moment < now.first - JUMP:  # from before: a second file that begins earlier, or a line out of order
            return moment
        if abs(shift - now.shift) > JUMP + SLEW * abs(moment - now.last):
            self._jumped(record, shift - now.shift)
            if len(boot.segments) < MAX_SEGMENTS:
                boot.segments.append(_Segment(shift, moment, moment))
        else:
            now.last = max(now.last, moment)
            if moment >= now.last:
                now.shift = shift
        return moment

    def _first(self, record: Record, wall: float, ticks: int) -> float:
        """The first record of a boot. A file is in the order of its boots: none begins before the one before has ended."""
        file, last = self._last
        base = wall
        if (self.one_log or file == record.file) and wall < last and self._boots:
            base = last
            self._say(f"the Mac's clock went back by {last - wall:.1f} s when it booted ({record.file}:{record.line})")
        boot = _Boot(base, ticks, [_Segment(wall - base, base, base)], 0.0, ticks, wall)
        self._boots[record.boot] = boot
        return base

    def _learn(self, boot: _Boot, wall: float, ticks: int) -> None:
        """Find the rate from two records far enough apart. What fits none (a clock set in between) is no measure."""
        passed, gone = ticks - boot.last_ticks, wall - boot.last_wall
        for rate in RATES:
            expected = passed * rate
            if abs(expected) >= 0.02 and abs(gone - expected) <= 0.005 + 0.02 * abs(expected):
                boot.rate = rate
                return
        if passed < 0 or passed * RATES[1] >= 0.02:
            boot.last_ticks, boot.last_wall = ticks, wall

    def _by_wall(self, record: Record, wall: float) -> float:
        plain = self._plain.setdefault(record.file, _Plain())
        moment = wall + plain.shift
        if plain.announced:
            plain.announced = False
            if plain.last is not None and moment < plain.last:
                self._say(
                    f"the Mac's clock was set back by about {plain.last - moment:.1f} s before "
                    f"{record.file}:{record.line}: what follows is later than its times say"
                )
                plain.shift += plain.last - moment
                moment = plain.last
        plain.last = moment if plain.last is None else max(plain.last, moment)
        return moment

    def _jumped(self, record: Record, seconds: float) -> None:
        back = "back" if seconds < 0 else "forward"
        how = "was set, or the Mac was suspended" if seconds > 0 else "was set"
        self._say(
            f"the Mac's clock jumped {back} by {abs(seconds):.1f} s before {record.file}:{record.line} "
            f"(boot {record.boot[:8]}): it {how}; the order is that of the ticks"
        )

    # -- everything else -------------------------------------------------------------------------------------------

    def of_wall(self, time: datetime | None, *, boot: str = "", ticks: int = 0, rate: float = 0.0) -> float | None:
        """The moment of a wall time that the Mac wrote.

        Args:
            time: Without a zone it says nothing.
            boot: The boot session in which it was written, if known.
            ticks: Ticks since boot at that time which do not count sleep (`procExitAbsTime`), so it is no earlier than they say.
            rate: Seconds of such a tick; the log's own where 0.
        """
        if time is None or time.tzinfo is None:
            return None
        wall = time.timestamp()
        known = self._boots.get(boot.upper())
        best: tuple[float, float, float] | None = None
        for each in (known,) if known is not None else tuple(self._boots.values()):
            rate_here = rate or each.rate
            by_ticks = each.base + (ticks - each.ticks) * rate_here if known and ticks > 0 and rate_here else None
            for segment in each.segments:
                moment = wall - segment.shift
                if by_ticks is None:
                    rank = (segment.outside(moment), 0.0, moment)
                else:  # never slept: they agree; slept: it is later
                    far = moment - by_ticks
                    rank = (0.0 if abs(far) <= APART else 1.0 + (0.0 if far > 0 else 1e9) + segment.outside(moment),
                            abs(far), moment)  # fmt: skip
                if best is None or rank[:2] < best[:2]:
                    best = rank
        if best is None:
            return wall
        if known is None and best[0] > 86_400.0:  # of a time that no log covers
            return wall
        return best[2]

    def of_host(self, time: datetime) -> float | None:
        """The moment of something that the harness noted by the host's clock; None where nobody compared the clocks."""
        host = time.timestamp()
        before = [seen for seen in self.hosts if seen.at <= host + APART] or self.hosts[:1]
        if not before:
            return None
        seen = before[-1]
        ahead = seen.ahead if abs(seen.ahead) > seen.within else 0.0  # as far as anybody knows, they agree
        return self.of_wall(datetime.fromtimestamp(host + ahead, UTC), boot=seen.boot)

    def compared(self, seen: HostClock) -> None:
        """The clocks were compared."""
        if len(self.hosts) < MAX_BOOTS:
            self.hosts.append(seen)

    def said(self) -> list[str]:
        """What is to be known about the clocks, in words."""
        return [*self._against_the_host(), *self._said]

    def _against_the_host(self) -> Iterator[str]:
        told: float | None = None
        for seen in self.hosts[:MAX_SAID]:
            if abs(seen.ahead) > APART + seen.within and (told is None or abs(seen.ahead - told) > APART + seen.within):
                told = seen.ahead
                where = f" in boot {seen.boot[:8]}" if seen.boot else ""
                way = "ahead of" if seen.ahead > 0 else "behind"
                yield f"the Mac's clock is {abs(seen.ahead):.1f} s {way} the host's{where} (±{seen.within:.1f} s)"

    def _say(self, text: str) -> None:
        if len(self._said) < MAX_SAID:
            self._said.append(text)
