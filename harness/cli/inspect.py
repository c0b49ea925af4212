"""`sysext inspect SOURCE`: what is inside an app, without a Mac."""

from __future__ import annotations

import json

import click


@click.command("inspect")
@click.argument("source")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--name", metavar="APP", help="which app, where an archive holds several")
@click.option("--sha256", metavar="HEX", help="what the file must hash to; needed for an https address")
@click.option("--verify/--no-verify", default=True, help="check hashes, signatures and chains (default), or only read")
def inspect(source: str, form: str, name: str | None, sha256: str | None, *, verify: bool) -> None:
    """Show what is inside an app: code, signatures, entitlements, profiles, the notarization ticket.

    SOURCE is an .app or another bundle, an archive, package or disk image with one in it, a Mach-O file, or a release:
    pypi:NAME==VERSION, or an https address with --sha256. Nothing is judged: `sysext preflight` does that.

    Exit 0: it could be read, be it odd. 2: it cannot be read.
    """
    from harness.bundles.facts import as_plain
    from harness.bundles.inspection import inspect_app, inspect_file
    from harness.bundles.inspection_text import as_text, item_text
    from harness.bundles.sources import opened

    with opened(source, app_name=name, sha256=sha256) as path:
        if path.is_dir():
            inspection = inspect_app(path, verify=verify)
            plain, text = inspection.as_dict(), as_text(inspection) if form == "text" else ""
        else:
            item, problems = inspect_file(path, verify=verify)
            plain = {"code": as_plain(item), "problems": as_plain(problems), "verified": verify}
            text = item_text(item, problems, verified=verify) if form == "text" else ""
    if form == "json":
        click.echo(json.dumps(plain, indent=1, ensure_ascii=False))
        return
    for line in text.splitlines():
        click.echo(_coloured(line))


def _coloured(line: str) -> str:
    """Headings bold, what does not hold red; click leaves the colours out where nobody sees them."""
    words = line.strip()
    if any(word in words for word in ("DOES NOT HOLD", "NO CHAIN", "PAGES DIFFER", "NOT COVERED", "DIFFERENT")):
        return click.style(line, fg="red")
    return click.style(line, bold=True) if words and not line.startswith(" ") else line
