"""A chain of releases for bisections on simulated Macs: copies of one real, published app, each with versions of its own.

Their seals are broken by that (the Info.plists are sealed), which a simulated Mac does not mind and preflight says; so runs with
them take `--sysext-no-preflight`.
"""

from __future__ import annotations

import plistlib
import shutil
from pathlib import Path

from harness.bundles.releases import fetch_release
from harness.config import Release, load_app, load_settings
from harness.repro.writing import app_table, write_toml


def make_chain(folder: Path, app_file: Path, count: int) -> tuple[Path, list[str]]:
    """An app file in `folder` that lists `count` releases 1.0, 1.1, …, and one before them; their versions, without that one."""
    app = load_app(app_file)
    source = fetch_release(app.releases[-1], app, load_settings(environ={}).cache_dir).path
    names = [f"1.{number}" for number in range(count)]
    releases = []
    for name in ("0.9", *names):
        copy = folder / "chain" / name / source.name
        shutil.copytree(source, copy, symlinks=True)
        for plist in (
            copy / "Contents" / "Info.plist",
            *copy.glob("Contents/Library/SystemExtensions/*/Contents/Info.plist"),
        ):
            info = plistlib.loads(plist.read_bytes())
            info["CFBundleShortVersionString"] = info["CFBundleVersion"] = name
            plist.write_bytes(plistlib.dumps(info))
        releases.append(Release(version=name, source=str(copy)))
    return write_toml(folder / "chain.toml", app_table(app, releases), "A chain of releases for a benchmark"), names
