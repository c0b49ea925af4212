"""`sysext redact PATH…`: evidence that can be given to somebody else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from harness.errors import UsageError


@click.command("redact")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="where to; must not be there (default: NAME-redacted here)"
)
@click.option(
    "--keep-map",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="keep key and pseudonyms, and use those of an earlier run; the file holds what was masked",
)
@click.option(
    "--words",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="more texts to mask, one a line: names of people, products, customers",
)
def redact(paths: tuple[Path, ...], output: Path | None, keep_map: Path | None, words: Path | None) -> None:
    """Mask who and where a Mac is: names, accounts, home folders, hosts, addresses, serials, Wi-Fi networks, tokens.

    PATH is a file (text, ndjson, .ips, property list, .gz, .tar, .tar.gz) or a folder, as a case file. The same value has the same
    pseudonym everywhere; logs and reports can still be read and triaged. What cannot be masked (pictures, .tracev3) is withheld
    and listed: redaction.json, and the list printed here. Look at the result before you send it: a name that nothing announces
    is found by no program; --words names it.
    """
    from harness.triage.redacting import Input, inputs_of, load_map, redact_folder, save_map
    from harness.triage.redaction import Masker

    target = output or Path(f"{paths[0].resolve().name.split('.')[0] or 'evidence'}-redacted")
    if target.exists() or target.is_symlink():
        raise UsageError(f"nothing at {target} yet", seen="it is there", hint="give another --output")
    inputs: list[Input] = []
    for path in paths:
        prefix = f"{path.resolve().name}/" if len(paths) > 1 and path.is_dir() else ""
        inputs += [Input(item.path, prefix + item.name) for item in inputs_of(path)]
    key, known = load_map(keep_map) if keep_map is not None and keep_map.exists() else (None, None)
    masker = Masker(read_words(words), key=key, known=known)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        done = redact_folder(inputs, work, masker)
        if keep_map is not None:
            save_map(keep_map, masker)
        work.chmod(0o755)
        work.replace(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    click.echo("\n".join(done.lines()))
    click.echo(f"written to {target}")


def read_words(path: Path | None) -> list[str]:
    """The lines of a file of words.

    Raises:
        UsageError: It cannot be read.
    """
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"a file of words at {path}", seen=str(error), hint="one word a line, UTF-8") from error
    return [line.strip() for line in lines if len(line.strip()) >= 2]
