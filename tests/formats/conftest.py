"""Where the posted samples of real Macs lie, beside the checkout; tests skip where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture(scope="session")
def samples() -> dict[str, str]:
    """Every posted sample's text, by its name."""
    folder = SHARED / "bench" / "triage" / "dev"
    if not folder.is_dir():
        pytest.skip(f"../shared is absent: {folder}")
    return {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.txt"))}
