"""Say why, with the lines that prove it: `triage(paths)` reads whatever there is and names causes.

    from harness.triage import triage
    found = triage([case_folder], extension_id="com.example.app.extension")
    print(found.headline())

Inputs are opened by `inputs`, causes are data (`causes/*.toml`, read by `catalog`), `matching` finds their signs,
`history` replays what happened to each extension, `ranking` decides, `report` says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.triage.engine import triage
    from harness.triage.report import CauseFound, SignSeen, Triage

__all__ = ["CauseFound", "SignSeen", "Triage", "triage"]

_WHERE = {"triage": "engine", "Triage": "report", "CauseFound": "report", "SignSeen": "report"}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"harness.triage.{_WHERE[name]}"), name)
