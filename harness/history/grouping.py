"""Which runs are of one kind: parameters belong to a scenario's name, the number of a cycle and the macOS version do not.

Everything here is read from the node id, which `result.json` and `run.jsonl` both have: the same run gets the same name from
either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARAMETERS = re.compile(r"\[([^\[\]]*)\]\s*$")
_NOT_OF_THE_SCENARIO = re.compile(r"(?:^|-)(?:macos\d+|cycle-?\d+(?:(?:of|/)\d+)?|repeat-?\d+)(?=-|$)")
_PATH = re.compile(
    r"(?P<chain>[A-Za-z0-9._+][A-Za-z0-9._+-]*?(?:->[A-Za-z0-9._+][A-Za-z0-9._+-]*?)+)"
    r"-(?P<how>pkg-preinstall|pkg|dmg|updater|delete-first)"
    r"-(?P<state>running|waiting|disabled|dismissed|never|asleep|second-user)"
)
_NAMED = re.compile(r"^(?P<name>.*) \[(?P<parameters>[^\[\]]*)\]$")
THIS = "this release"


@dataclass(frozen=True)
class Path:
    """An upgrade path as a node id has it.

    Attributes:
        releases: In the order of their installation; of a path whose steps differ, only those of the first.
        way: How and in which state, `pkg-running`.
    """

    releases: tuple[str, ...]
    way: str


def parameters(nodeid: str) -> str:
    """What a scenario was parametrised with, without macOS version and cycle: `0.11.4->0.11.5-pkg-running`, or ""."""
    found = _PARAMETERS.search(nodeid)
    return _NOT_OF_THE_SCENARIO.sub("", found.group(1)).strip("-") if found else ""


def path_of(text: str) -> Path | None:
    """The upgrade path that parameters name, or None."""
    if "->" not in text or len(text) > 1000:
        return None
    found = _PATH.fullmatch(text.split("+", 1)[0] if _PATH.fullmatch(text) is None else text)
    if found is None:
        return None
    return Path(tuple(found["chain"].split("->")), f"{found['how']}-{found['state']}")


def scenario_name(scenario: str, nodeid: str) -> str:
    """The name under which runs are counted together: `upgrade path [0.11.4->0.11.5-pkg-running]`."""
    text = parameters(nodeid)
    return f"{scenario} [{text}]" if text and text not in scenario else scenario


def release_of(release: str, nodeid: str) -> str:
    """The release that a run says something about: the one under test, or where its upgrade path does without that one, the
    path's last.
    """
    path = path_of(parameters(nodeid))
    return release if path is None or release in path.releases else path.releases[-1]


def kind(scenario: str, release: str) -> str:
    """A name's kind, the same for every release: `upgrade path [0.11.4->this release-pkg-running]`."""
    found = _NAMED.match(scenario)
    path = path_of(found["parameters"]) if found else None
    if found is None or path is None:
        return scenario
    chain = "->".join(THIS if one == release else one for one in path.releases)
    return f"{found['name']} [{chain}-{path.way}]"


def older_of(scenario: str, release: str) -> tuple[str, str] | None:
    """For a plain upgrade to `release`: (the older release, the kind of all upgrades to it in that way); else None."""
    found = _NAMED.match(scenario)
    path = path_of(found["parameters"]) if found else None
    if found is None or path is None or len(path.releases) != 2 or path.releases[1] != release:
        return None
    return path.releases[0], f"{found['name']} [*->{THIS}-{path.way}]"
