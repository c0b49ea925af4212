"""What macOS prints, read into typed records. No I/O; one parser per format; never by column.

A parser that reads loose text never raises: what it did not understand is part of its result. Parsers of closed formats
(property lists, crash reports) raise `FormatError`.
"""

from harness.formats.failures import FormatError
from harness.formats.states import ExtensionState, is_known_state, is_leftover, normalise_state

__all__ = ["ExtensionState", "FormatError", "is_known_state", "is_leftover", "normalise_state"]
