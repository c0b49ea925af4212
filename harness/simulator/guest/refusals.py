"""Ways in which sysextd turns a request down: what it logs, and the code that the app gets.

Lines and codes as posted logs and OSSystemExtensionErrorDomain have them; which line goes with which code, where no posted log has both,
is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Refusal:
    """One way.

    Attributes:
        code: Of OSSystemExtensionErrorDomain.
        text: The error's description, "(null)" where none is known.
        lines: (process, category, message) in their order; `{id}` and `{team}` stand for the extension's.
    """

    code: int
    text: str = "(null)"
    lines: tuple[tuple[str, str, str], ...] = ()


REFUSALS: Final[dict[str, Refusal]] = {
    "forbidden-by-policy": Refusal(
        10,
        lines=(
            ("sysextd", "", 'teamID "{team}" is not in the list of allowed extensions'),
            ("sysextd", "", "Activation decision for extension {id} is: Deny"),
        ),
    ),
    "code-signature-invalid": Refusal(
        8,
        "Invalid code signature or missing entitlements",
        (("sysextd", "", "bundle code signature is not valid - does not satisfy requirement: -67050"),),
    ),
    "extension-category-unrecognised": Refusal(
        7,
        "Unknown extension category",
        (
            ("sysextd", "", "{id}: package type not `SYSX`"),
            ("sysextd", "", "system extension does not appear to belong to any extension categories"),
        ),
    ),
    "mach-service-name-invalid": Refusal(
        9,
        "extension category returned error",
        (
            (
                "nesessionmanager",
                "",
                "{id} has an invalid mach service name or is not signed, the value must be prefixed with one of the App Groups",
            ),
            ("sysextd", "", "{id}: extension failed to validate! uninstalling..."),
        ),
    ),
}
"""By fault code."""
