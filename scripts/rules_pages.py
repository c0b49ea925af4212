"""The pages of the preflight's rules: docs/rules/.

.venv/bin/python scripts/rules_pages.py            says whether they are up to date (exit code 1 if not)
.venv/bin/python scripts/rules_pages.py --write    brings them up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.bundles.preflight.pages import pages

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "rules"


def stale(folder: Path = FOLDER) -> list[str]:
    """Pages that are missing, old, or of no rule."""
    wanted = pages()
    here = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")} if folder.is_dir() else {}
    return sorted({name for name in {*wanted, *here} if wanted.get(name) != here.get(name)})


def main(arguments: list[str]) -> int:
    """Check or write."""
    found = stale()
    if "--write" in arguments:
        FOLDER.mkdir(parents=True, exist_ok=True)
        wanted = pages()
        for name in found:
            if name in wanted:
                (FOLDER / name).write_text(wanted[name], encoding="utf-8")
            else:
                (FOLDER / name).unlink()
    for name in found:
        print(("written: " if "--write" in arguments else "out of date: ") + f"docs/rules/{name}")
    return 1 if found and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
