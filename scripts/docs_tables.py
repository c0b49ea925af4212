"""The tables in docs/ that are made from the program itself: settings, app files, faults, causes.

    .venv/bin/python scripts/docs_tables.py            says whether they are up to date (exit code 1 if not)
    .venv/bin/python scripts/docs_tables.py --write    brings them up to date

A table stands between `<!-- table: NAME -->` and `<!-- end: NAME -->`; the rest of a page is written by people.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from harness import config

ROOT = Path(__file__).resolve().parent.parent

# What a setting means where its own name says nearly all of it (the others have a docstring in harness/config).
MEANINGS = {
    "provider": "Where Macs come from.",
    "macos": "macOS versions to run each scenario on.",
    "image": "The image to clone, whatever the version; overrides `tart.images`.",
    "lane": "How the image was prepared; verdicts of different lanes are never mixed.",
    "app": "The app file of the product under test.",
    "artifacts": "Where case files and reports go.",
    "keep_vm": "Leave a failed Mac running, and say how to reach it.",
    "tart.executable": "The `tart` to run.",
    "tart.cpu": "CPU cores per Mac; two were reported to freeze.",
    "tart.memory_mb": "Memory per Mac.",
    "tart.display": "Its display; give px, for pt depends on the host's screen.",
    "simulated.slots": "Simulated Macs at once.",
    "simulated.boot_seconds": "From power-on to the network.",
    "simulated.login_seconds": "From there to the desktop.",
    "simulated.prompt_seconds": "From the decision to ask to the prompt's pixels.",
    "simulated.settle_seconds": "From a click to what it changes.",
    "simulated.shutdown_seconds": "An orderly shutdown.",
    "simulated.activation_seconds": "From an activation request to the decision.",
    "simulated.sysdiagnose_seconds": "A sysdiagnose.",
    "simulated.display": "Its display.",
    "simulated.scale": "Pixels per point.",
    "simulated.appearance": "Light or dark.",
    "guest.user": "The account: SSH login, sudo, and the administrator who approves.",
    "guest.password": "Its password. Masked in everything that is written.",
    "guest.ssh_port": "Where the guest's sshd listens.",
    "guest.keepalive_seconds": "Between keepalives; a dead connection is noticed after a few.",
    "timeouts.clone": "Making a clone, the pull of its image included.",
    "timeouts.slot": "Waiting for one of the host's slots.",
    "timeouts.boot": "From the start to an address with an open SSH port.",
    "timeouts.ssh": "From there to a logged-in SSH session, and for the console user to be there.",
    "timeouts.command": "One guest command, where nothing else is said.",
    "timeouts.install": "Copying a release to the Mac and installing it.",
    "timeouts.activation": "From the launch of the app to the request's decision.",
    "timeouts.approval": "The walk through the prompts.",
    "timeouts.reboot": "Until the boot session has changed and the console user is back.",
    "timeouts.shutdown": "An orderly shutdown, before the power is cut.",
    "timeouts.evidence": "All evidence of one failure together.",
    "timeouts.sysdiagnose": "The sysdiagnose alone; then `log collect` takes its place.",
    "evidence.sysdiagnose": "Run one on failure.",
    "evidence.log_last": "How far back the log slice goes.",
    "evidence.max_frames": "Frames kept per case file.",
    "bundle_id": "The host app's bundle identifier.",
    "team": "Its Team ID.",
    "extension.id": "The extension's bundle identifier.",
    "extension.kind": "What kind of extension it is: decides the wording of prompts and the checks.",
    "releases": "At least one, oldest first; the last is the release under test.",
    "releases.sha256": "Of the downloaded file; required for an https source.",
    "launch.environment": "Environment variables for the app.",
    "launch.success_codes": "Exit codes that mean it did its work.",
    "consents": "Which prompts to expect, in order.",
    "log_subsystems": "Subsystems of the product, to be part of log evidence.",
    "checks": "Commands in the guest that succeed when the product works.",
    "checks.name": "What it is called in reports.",
    "checks.command": "The command, as a list of words.",
    "checks.expect_exit": "Its exit code.",
    "checks.sudo": "Run it as root.",
    "updater.sudo": "Run it as root.",
}
TABLES: dict[str, type[config.Table]] = {"settings": config.Settings, "app-file": config.AppFile}


class _Row(typing.NamedTuple):
    name: str
    kind: str
    default: str
    meaning: str


def rows(model: type[config.Table], prefix: str = "") -> Iterator[_Row]:
    """One row per setting, tables opened up."""
    told = _docstrings(model)
    for name, field in model.model_fields.items():
        if name in model.not_written:
            continue
        dotted = f"{prefix}{name}"
        table = config.table_of(field.annotation)
        many = typing.get_origin(field.annotation) is list
        if table is None or many:
            meaning = told.get(name) or MEANINGS.get(dotted, "")
            yield _Row(dotted, _kind(field.annotation), _default(field), " ".join(meaning.split()))
        if table is not None:
            yield from rows(table, f"{dotted}.")


def settings_table(name: str) -> str:
    """A Markdown table of a settings model."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {_cell(row.kind)} | {_cell(row.default)} | {_cell(row.meaning)} |"
        for row in rows(TABLES[name])
    ]
    return "\n".join(lines)


def faults_table() -> str:
    """A Markdown table of what the simulated `tart` says it can do wrong."""
    command = [sys.executable, "-c", "from harness.simulator.tart import main; main()", "sim-faults"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = ["| code | what a simulated Mac then does |", "|---|---|"]
    for line in done.stdout.splitlines():
        code, _, what = line.partition("\t")
        lines.append(f"| `{code}` | {_cell(what)} |")
    return "\n".join(lines)


def causes_table() -> str:
    """What triage knows, cause by cause."""
    from harness.triage.catalog import load_catalog
    from harness.triage.pages import causes_page

    return causes_page(load_catalog()).rstrip("\n")


def variations_table() -> str:
    """A Markdown table of what the simulated display can do differently."""
    from harness.simulator.variations import VARIATIONS

    lines = ["| name | values, the usual one first | what differs |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {_cell(values.replace('|', ', '))} | {_cell(what)} |"
        for name, (values, what) in VARIATIONS.items()
    ]
    return "\n".join(lines)


def upgrade_states_table() -> str:
    """A Markdown table of what is expected of an upgrade in each state."""
    from harness.upgrades.expectations import rows as states

    lines = [
        "| state before | the newer version, until somebody answers | what a person does | source |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in states())])


MADE: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/settings.md", "settings"): lambda: settings_table("settings"),
    ("docs/settings.md", "app-file"): lambda: settings_table("app-file"),
    ("docs/faults.md", "faults"): faults_table,
    ("docs/variations.md", "variations"): variations_table,
    ("docs/causes.md", "causes"): causes_table,
    ("docs/upgrades.md", "upgrade-states"): upgrade_states_table,
}


def page_with(text: str, name: str, table: str) -> str:
    """`text` with the table of that name replaced.

    Raises:
        ValueError: The page has no place for it.
    """
    found = re.search(rf"(<!-- table: {name} -->\n).*?(<!-- end: {name} -->)", text, flags=re.DOTALL)
    if found is None:
        raise ValueError(f"no place for the table {name}")
    return text[: found.end(1)] + table + "\n" + text[found.start(2) :]


def main(arguments: list[str]) -> int:
    """Check or write."""
    stale = []
    for (page, name), make in MADE.items():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        new = page_with(text, name, make())
        if new != text:
            stale.append(f"{page}: {name}")
            if "--write" in arguments:
                path.write_text(new, encoding="utf-8")
    for what in stale:
        print(("written: " if "--write" in arguments else "out of date: ") + what)
    return 1 if stale and "--write" not in arguments else 0


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field name → the string that follows it, or its line in the class docstring's `Attributes:`."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    told: dict[str, str] = {}
    for line in (ast.get_docstring(tree) or "").partition("Attributes:")[2].splitlines():
        name, colon, text = line.strip().partition(": ")
        if colon and name in model.model_fields:
            told[name] = text
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            told[field.target.id] = str(after.value.value)
    return told


def _kind(annotation: Any) -> str:
    if annotation is SecretStr:
        return "string"
    if annotation is type(None):
        return "unset"
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(json.dumps(argument) for argument in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"table of {_kind(arguments[1])}"
    if arguments:
        return " or ".join(_kind(argument) for argument in arguments if argument is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {str: "string", int: "integer", float: "number", bool: "true or false", Path: "path"}[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "–"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, dict) and value:
        return ", ".join(f"`{key} = {json.dumps(item)}`" for key, item in value.items())
    return f"`{json.dumps(value, default=str)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
