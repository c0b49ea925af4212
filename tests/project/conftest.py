"""What the tests about the project's own files share."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _listed() -> tuple[Path, ...]:
    if not (ROOT / ".git").exists():
        return ()
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(path for name in names if name and (path := ROOT / name).is_file())


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def project_files() -> tuple[Path, ...]:
    """All files of the project, also those not committed yet; none that git ignores."""
    files = _listed()
    if not files:
        pytest.skip("not a git checkout: the project's files cannot be told from others")
    return files
