"""What can go wrong between us and a guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import EnvironmentFailure, SysextError, Verdict
from harness.events import SECRETS

_SHOWN_COMMAND = 200
_SHOWN_OUTPUT = 1500


class ConnectionLost(EnvironmentFailure):
    """The way to the guest broke. What was under way may or may not have happened: it is never silently done again."""


class LoginRefused(EnvironmentFailure):
    """The guest answers, but lets nobody in with these credentials."""


class HostKeyChanged(EnvironmentFailure):
    """Another SSH host key than at first contact: this is not the machine we started with."""


class NoSpace(EnvironmentFailure):
    """A disk, the guest's or the host's, has no room for what is to be written."""


class ChecksumMismatch(EnvironmentFailure):
    """A file arrived other than it was sent."""


class NoSuchFile(SysextError):
    """A file in the guest that is not there."""


class CommandFailed(SysextError):
    """A command in the guest did not end with 0.

    Attributes:
        result: Its result, None if it never got so far.
    """

    def __init__(
        self,
        expected: str,
        *,
        seen: str = "",
        hint: str = "",
        result: Result | None = None,
        blame: Verdict = Verdict.HARNESS_ERROR,
    ) -> None:
        self.result = result
        self.verdict = blame
        super().__init__(expected, seen=seen, hint=hint)


class CommandTimeout(CommandFailed):
    """A command in the guest was still running at its deadline, and was ended."""


@dataclass(frozen=True)
class Result:
    """How a command in the guest ended.

    Attributes:
        argv: The command, without sudo and environment.
        exit_code: As a shell counts: 128 + n for a signal n.
        signal: The name of the signal that ended it ("KILL"), if one did.
        seconds: How long it took, the way there and back included.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    signal: str | None = None

    @property
    def text(self) -> str:
        """Standard output as text; what is no UTF-8 becomes U+FFFD."""
        return self.stdout.decode("utf-8", errors="replace")

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", errors="replace")

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.text.splitlines()

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.exit_code == 0

    def check(self, guest: str) -> Result:
        """Itself if it ended with 0.

        Raises:
            CommandFailed: It did not. A full disk is the environment's fault.
        """
        if self.exit_code == 0:
            return self
        how = f"ended by signal {self.signal}" if self.signal else f"exit code {self.exit_code}"
        said = tail(self.stderr) or tail(self.stdout)
        full = b"No space left on device" in self.stderr
        hint = f"run it yourself in the guest: {shown(self.argv)}"
        if full:
            hint = "the guest's disk is full: give the image a larger one"
        elif self.exit_code == 127:
            hint = "the guest has no such command"
        raise CommandFailed(
            f"`{shown(self.argv)}` to succeed on {guest}",
            seen=f"{how}; it said: {said}" if said else f"{how}, and it said nothing",
            hint=hint,
            result=self,
            blame=Verdict.ENVIRONMENT_FAILURE if full else Verdict.HARNESS_ERROR,
        )


def shown(argv: Sequence[str]) -> str:
    """A command as an error or an event shows it: secrets masked, not too long, one line."""
    text = SECRETS.mask(" ".join(argv)).replace("\n", "\\n")
    return text if len(text) <= _SHOWN_COMMAND else text[: _SHOWN_COMMAND - 1] + "…"


def tail(data: bytes) -> str:
    """The end of an output, for an error's text."""
    return SECRETS.mask(data[-_SHOWN_OUTPUT:].decode("utf-8", errors="replace").strip())
