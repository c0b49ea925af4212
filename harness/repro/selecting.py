"""From what the user names to what pytest is given."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import UsageError
from harness.session.options import add_options

NOT_HERE = {
    "--sysext-repeat": "--cycles",
    "--sysext-until-fail": "--until-fail",
    "--sysext-same-mac": "--same-mac",
    "--sysext-keep": "--keep",
    "--sysext-keep-vm": "--keep all",
    "--sysext-quiet": "nothing: it is quiet",
}
"""pytest's options that have another name here."""
_PREFIX = "--sysext-"
SECONDS_REAL, SECONDS_SIMULATED = 7200, 600
"""For one cycle, where pytest-timeout is installed: a time limit for unit tests is none for a Mac."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"options that `sysext {self.prog}` or pytest's plugin knows",
            seen=message,
            hint=f"`sysext {self.prog} --help`",
        )


class _Group:
    """Takes pytest's way of adding an option."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def getgroup(self, *_: Any) -> _Group:
        return self

    def addoption(self, *names: str, **given: Any) -> None:
        self._parser.add_argument(*names, **given)


def parse_options(words: Sequence[str], command: str = "repro") -> argparse.Namespace:
    """The `--sysext-…` options among these words, checked as pytest would, `sysext_macos` and so on; `rest` is what else there is.
    `command` is the verb that they were given to.

    Raises:
        UsageError: An unknown option (with the nearest one), a missing value, or one that has another name here.
    """
    parser = _Parser(prog=command, add_help=False, allow_abbrev=False)
    add_options(_Group(parser))  # type: ignore[arg-type]  # it only takes getgroup().addoption()
    known = sorted(name for action in parser._actions for name in action.option_strings)
    for word in words:
        name = word.partition("=")[0]
        if name in NOT_HERE:
            instead = NOT_HERE[name] if command == "repro" else "nothing"
            raise UsageError(f"{instead} instead of {name}", seen=name, hint=f"`sysext {command} --help`")
        if name in ("-k", "-m"):
            raise UsageError(
                "the scenario named by SCENARIO", seen=name, hint="SCENARIO may be a word, as for pytest's -k"
            )
        if name.startswith("-") and name not in known:
            bare = {option.removeprefix(_PREFIX): option for option in known}  # what all have in common makes none near
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), bare, n=1)
            parser.error(f"{name}; did you mean {bare[near[0]]}?" if near else name)
    parser.add_argument("rest", nargs="*")
    return parser.parse_intermixed_args(list(words))


def settings_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What those options put over the settings, as pytest's own do."""
    from harness.session.options import overrides

    class Config:
        def getoption(self, name: str) -> Any:
            return getattr(options, name)

    config: Any = Config()
    return overrides(config)


def chosen(scenario: str, *, root: Path) -> list[str]:
    """A node id or path as it is; any other word as `-k` in `scenarios` (or here, where there is no such folder).

    Raises:
        UsageError: A node id whose file is not there, or no word at all.
    """
    file = scenario.partition("::")[0]
    if not scenario.strip() or scenario.startswith("-"):
        raise UsageError(
            "a scenario: a pytest node id or a word of its name", seen=repr(scenario), hint="such as upgrade"
        )
    if "::" in scenario or (root / file).exists():
        if not (root / file).exists():
            raise UsageError(f"a file at {file}", seen="nothing there", hint="give a node id as pytest prints it")
        return [scenario]
    return [*(["scenarios"] if (root / "scenarios").is_dir() else []), "-k", scenario]


def pytest_arguments(
    scenario: str, words: Sequence[str], *, root: Path, simulated: bool, same_mac: bool = False, keep: str = "none"
) -> list[str]:
    """All that a worker's pytest is given."""
    given = [*chosen(scenario, root=root), *words, "--sysext-quiet", "--sysext-keep", keep]
    if same_mac:
        given.append("--sysext-same-mac")
    given += ["-q", "--tb", "short", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("pytest_timeout") is not None:
        given += ["--timeout", str(SECONDS_SIMULATED if simulated else SECONDS_REAL)]
    return given
