# ruff: noqa: T201 - a command line tool prints
"""A `tart` executable for simulated Macs: the same verbs, messages, exit codes, files, locks and signals.

Modelled on Tart 2.35 (github.com/openai/tart, Sources/tart); `SYSEXT_SIM_TART_VERSION` plays another one. Two hidden
verbs are ours: `sim-forward IP PORT` (where a guest's port is on this host) and `sim-faults` (what can be injected).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from harness.errors import SysextError
from harness.simulator.arguments import GRAMMARS, Grammar, Parsed, help_of, overview, parse
from harness.simulator.settings import from_environment
from harness.simulator.store import Store, TartError, UsageMistake

EX_USAGE = 64
STARTED = time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    """The console entry: runs one command line and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # line-buffered even into a pipe, and never broken by a name
            reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")
    try:
        return _dispatch(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h") or words == ["help"]:
        print(overview())
        return 0
    try:
        settings = from_environment()
    except SysextError as error:
        _complain(f"Error: {error}")
        return EX_USAGE
    if words[0] == "--version":
        print(settings.tart_version)
        return 0
    if words[0] == "help":
        grammar = GRAMMARS.get(words[1])
        print(help_of(grammar) if grammar else overview())
        return 0
    grammar = GRAMMARS.get(words[0])
    if grammar is None:
        said = f"Unknown option '{words[0]}'" if words[0].startswith("-") else f"Unexpected argument '{words[0]}'"
        return _usage(UsageMistake(said, root=True), None)
    try:
        parsed = parse(grammar, words[1:])
        if parsed.help:
            print(help_of(grammar))
            return 0
        return _run(grammar, parsed)
    except UsageMistake as mistake:
        return _usage(mistake, grammar)
    except TartError as error:
        _complain(str(error))
        return error.code
    except SysextError as error:  # a mistake in the simulation's own settings
        _complain(f"Error: {error}")
        return EX_USAGE
    except KeyboardInterrupt:
        if grammar.verb == "run":
            _complain("CancellationError()")
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(f"Error: {error}")
        return 1


def _run(grammar: Grammar, parsed: Parsed) -> int:
    settings = from_environment()
    store = Store.from_environment()
    if grammar.verb == "run":
        from harness.simulator.run_verb import run  # the heavy half: an event loop, SSH, a display

        return run(store, settings, parsed, started=STARTED)
    from harness.simulator import verbs

    if grammar.verb not in ("clone", "pull"):
        try:
            store.collect_garbage()
        except OSError as error:
            _complain(f"Failed to perform garbage collection: {error}")
    return verbs.VERBS[grammar.verb](store, settings, parsed)


def _usage(mistake: UsageMistake, grammar: Grammar | None) -> int:
    _complain(f"Error: {mistake}")
    if mistake.help_line:
        _complain(f"Help:  {mistake.help_line}")
    if grammar is None or mistake.root:
        _complain("Usage: tart <subcommand>\n  See 'tart --help' for more information.")
    else:
        _complain(f"{grammar.usage}\n  See 'tart {grammar.verb} --help' for more information.")
    return EX_USAGE


def _complain(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
