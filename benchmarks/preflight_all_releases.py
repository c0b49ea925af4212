"""Judge every published release of mitmproxy_macos and every upgrade from one to the next; the table of docs/.

    python -m benchmarks.preflight_all_releases                  prints the table and how long judging took
    python -m benchmarks.preflight_all_releases --write          and puts it into docs/releases-mitmproxy.md

Downloads what the cache does not have: about 6 MB per release. Exits 1 if a release cannot be judged, or takes more than
its share of time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness.bundles.inspection import inspect_app
from harness.bundles.oddities import oddities_of
from harness.bundles.preflight import Release, judge
from harness.bundles.preflight.matrix import as_markdown, matrix
from harness.bundles.releases import fetch_source
from harness.config import load_settings
from harness.errors import SysextError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "releases-mitmproxy.md"
PROJECT = "mitmproxy_macos"
APP = "Mitmproxy Redirector"
MOST_MS = 100.0
"""Inspecting and judging one release, the median over all: what a scenario may be held up by."""
HEAD = """\
# Upgrades between the published releases of Mitmproxy Redirector

Every release of the package `mitmproxy_macos`, judged by `sysext preflight`; made by
`python -m benchmarks.preflight_all_releases --write`. A row is the upgrade from one release to the next. The package's
number is not the app's: the app stayed at 1.0 (1) until 0.11.5 while its builds changed, which is what
[`version-raised`](rules/version-raised.md) is about. `x86_64 new`: only that slice has another build UUID.

"""


def versions() -> list[str]:
    """All published versions, oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", PROJECT, "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    line = next(line for line in done.stdout.splitlines() if line.startswith("Available versions:"))
    return [part.strip() for part in line.partition(":")[2].split(",")][::-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    cache = load_settings(environ={}).cache_dir
    releases: list[Release] = []
    spent: list[float] = []
    failed = 0
    for version in versions():
        try:
            bundle = fetch_source(f"pypi:{PROJECT}=={version}", cache, app_name=APP)
            started = time.perf_counter()
            release = Release(version, inspect_app(bundle.path), bundle.path, oddities_of(bundle.path), version)
            report = judge(release)
            spent.append((time.perf_counter() - started) * 1000)
        except SysextError as error:
            failed += 1
            print(f"{version}: {error}")
            continue
        releases.append(release)
        worst = ", ".join(sorted({f"{finding.severity} {finding.rule.id}" for finding in report.findings}))
        print(f"{version:8} {report.version:10} {spent[-1]:6.1f} ms  {worst}")
    rows = matrix(releases, adjacent=True)
    text = as_markdown(rows)
    print(text)
    alone = sorted({f.rule.id for release in releases for f in judge(release).findings if f.severity != "note"})
    print(
        f"{len(releases)} releases, {failed} failed, {len(rows)} upgrades; alone, warnings and errors: {alone or 'none'}"
    )
    print(f"inspect and judge one release: median {statistics.median(spent):.1f} ms, worst {max(spent):.1f} ms")
    if write:
        PAGE.write_text(f"{HEAD}{text}\n", encoding="utf-8")
    return 1 if failed or statistics.median(spent) > MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
