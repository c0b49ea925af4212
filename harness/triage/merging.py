"""Several files of one Mac's log as one: by boot, and within a boot by ticks, while they are read.

The log of a Mac is collected several times, and a reboot purges what was before: a stream that began earlier holds records which a
later file has not. One file after the other, those would come after what they led to.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.formats.records import Record

MAX_BOOTS: Final = 1000
_BLOCK: Final = 1 << 20
_OVERLAP: Final = 128
_BOOT = re.compile(rb'"bootUUID"\s*:\s*"([0-9A-Fa-f]{8}-[0-9A-Fa-f-]{27})"')


def boots_in(path: Path) -> list[str]:
    """The boot sessions that an ndjson file names, upper case, in the order of their first records.

    Raises:
        OSError: It cannot be read.
    """
    found: dict[bytes, None] = {}
    rest = b""
    with path.open("rb") as stream:
        while piece := stream.read(_BLOCK):
            block = rest + piece
            for boot in dict.fromkeys(_BOOT.findall(block)):
                if len(found) < MAX_BOOTS:
                    found.setdefault(boot.upper())
            rest = block[-_OVERLAP:]
    return [boot.decode("ascii") for boot in found]


def boot_order(files: Sequence[Sequence[str]]) -> list[str]:
    """One order of boots that keeps the order within each file; files that contradict each other are taken as they come."""
    after: dict[str, set[str]] = {}
    for boots in files:
        for boot in boots:
            after.setdefault(boot, set())
        for first, second in itertools.pairwise(boots):
            if first != second:
                after[second].add(first)
    order: list[str] = []
    done: set[str] = set()
    while len(done) < len(after):
        left = [boot for boot in after if boot not in done]
        boot = next((each for each in left if after[each] <= done), left[0])
        done.add(boot)
        order.append(boot)
    return order


def merged(files: Sequence[Iterator[Record]], order: Sequence[str]) -> Iterator[Record]:
    """The records of all files in one order; those of equal place in the order of the files.

    Args:
        files: Each in its own order; read as far as needed only.
        order: Boot sessions in theirs (see `boot_order`). A boot that is not in it comes last.
    """
    ranks = {boot: rank for rank, boot in enumerate(order)}
    for _, record in heapq.merge(*(_keyed(file, ranks) for file in files), key=lambda pair: pair[0]):
        yield record


def _keyed(file: Iterator[Record], ranks: Mapping[str, int]) -> Iterator[tuple[tuple[int, int], Record]]:
    """A record without a boot or ticks (a marker) stays behind the one before it. Keys never fall, as a merge needs it."""
    key = (0, 0)
    for record in file:
        if record.boot and record.order[1]:
            key = max(key, (ranks.get(record.boot, len(ranks)), record.order[1]))
        yield key, record
