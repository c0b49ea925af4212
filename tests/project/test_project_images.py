"""Image recipes: they parse, fit together, and keep the password out of argument lists. None can be run here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

IMAGES = Path(__file__).resolve().parents[2] / "vm_images"
TEMPLATES = ["pristine", "sip", "instrumented"]
SCRIPTS = sorted([*IMAGES.glob("scripts/*.sh"), *IMAGES.glob("*.sh")])
VERSIONS = sorted(IMAGES.glob("versions/*.pkrvars.hcl"))


def parse(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        data: dict[str, Any] = hcl2.load(file)
    return data


def text_of(template: str) -> str:
    return "\n".join(path.read_text() for path in sorted((IMAGES / template).glob("*.pkr.hcl")))


def variables(template: str) -> dict[str, dict[str, Any]]:
    found = {}
    for path in (IMAGES / template).glob("*.pkr.hcl"):
        for block in parse(path).get("variable", []):
            for name, body in block.items():
                found[name.strip('"')] = body
    return found


@pytest.mark.parametrize("path", sorted(IMAGES.rglob("*.hcl")), ids=lambda path: str(path.relative_to(IMAGES)))
def test_parses(path: Path) -> None:
    assert parse(path)


@pytest.mark.parametrize("template", TEMPLATES)
def test_declared_is_used_and_used_is_declared(template: str) -> None:
    declared = set(variables(template))
    text = text_of(template)
    body = re.sub(r'variable "\w+" \{.*?\n\}', "", text, flags=re.DOTALL)
    assert set(re.findall(r"\bvar\.(\w+)", body)) == declared


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_builder_is_tarts_and_every_source_is_built(template: str) -> None:
    text = text_of(template)
    (source,) = re.findall(r'^source "tart-cli" "(\w+)"', text, flags=re.MULTILINE)
    assert f'"source.tart-cli.{source}"' in text
    assert 'source  = "github.com/cirruslabs/tart"' in text
    assert 'recovery_partition = "keep"' in text


# What the builder takes (its documentation); a misspelt option would only be noticed on a Mac.
OPTIONS = set(
    re.findall(
        r"\w+",
        "from_ipsw from_iso vm_base_name vm_name allow_insecure always_pull pull_concurrency cpu_count memory_gb disk_size_gb "
        "disk_format recovery_partition display headless recovery rosetta run_extra_args ip_extra_args create_grace_time "
        "communicator ssh_username ssh_password ssh_timeout boot_wait boot_command boot_key_interval disable_vnc",
    )
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_only_options_that_the_builder_has(template: str) -> None:
    (block,) = parse(IMAGES / template / "main.pkr.hcl")["source"]
    (source,) = block['"tart-cli"'].values()
    given = {name for name in source if not name.startswith("__")}
    assert given <= OPTIONS
    assert {"vm_name", "vm_base_name"} <= given


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_password_is_sensitive(template: str) -> None:
    assert variables(template)["ssh_password"]["sensitive"] is True
    assert "default" not in variables(template)["ssh_password"]
    text = text_of(template)
    if "SYSEXT_PASSWORD" in text:
        assert text.count("use_env_var_file = true") == len(re.findall(r"environment_vars", text))


@pytest.mark.parametrize("template", TEMPLATES)
def test_scripts_that_are_named_exist(template: str) -> None:
    text = text_of(template)
    named = set(re.findall(r"[\w-]+\.sh", text))
    assert named <= {path.name for path in SCRIPTS}
    assert named or template == "sip"


def test_every_macos_has_its_values() -> None:
    assert [path.name for path in VERSIONS] == [f"macos-{version}.pkrvars.hcl" for version in ("13", "14", "15", "26")]
    for path in VERSIONS:
        values = parse(path)
        assert values["macos"].strip('"') in path.name
        assert re.fullmatch(
            r"ghcr\.io/cirruslabs/macos-[a-z]+-vanilla(:latest|@sha256:[0-9a-f]{64})", values["base_image"].strip('"')
        )


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_build_script_gives_every_value_that_has_no_default(template: str) -> None:
    script = (IMAGES / "build.sh").read_text()
    required = {name for name, body in variables(template).items() if "default" not in body}
    from_versions = set(parse(VERSIONS[0]))
    calls = re.findall(rf"build {template} (.*)", script)
    assert calls
    for call in calls:
        given = set(re.findall(r'-var "?(\w+)=', call))
        assert required - from_versions - {"ssh_password"} <= given
        assert given <= set(variables(template))
    assert "PKR_VAR_ssh_password" in script


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()
    assert path.stat().st_mode & 0o111
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (see scripts/apt-packages.txt)")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_password_in_an_argument_list(path: Path) -> None:
    for line in path.read_text().splitlines():
        code = line.partition("#")[0]
        if not re.search(r"SYSEXT_PASSWORD|PKR_VAR_ssh_password|\$password\b", code):
            continue
        # printf is a builtin of the shell, `: ${…}` and assignments start nothing, expect reads its environment.
        builtin, _, rest = code.partition("|")
        harmless = (re.search(r"^\s*printf ", builtin) and "PASSWORD" not in rest) or re.search(
            r"^\s*:|^\s*export|\[ -n|send -- \"\$env\(", code
        )
        assert harmless, line


def kcpassword(password: str) -> bytes:
    script = IMAGES / "scripts" / "kcpassword.sh"
    done = subprocess.run(["bash", str(script)], input=password.encode() + b"\n", capture_output=True, check=True)
    return done.stdout


def decoded(content: bytes) -> bytes:
    key = bytes.fromhex("7d895223d2bcddeaa3b91f")
    return bytes(byte ^ key[index % len(key)] for index, byte in enumerate(content))


def test_kcpassword_of_a_known_password() -> None:
    assert kcpassword("admin").hex() == "1ced3f4abcbcddeaa3b91f7d"


@settings(max_examples=25, deadline=None)
@example("twelve bytes")
@example("é" * 12)
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\n\r"), min_size=1, max_size=30))
def test_kcpassword_decodes_and_is_padded(password: str) -> None:
    plain = decoded(kcpassword(password))
    assert len(plain) % 12 == 0
    assert plain.rstrip(b"\0") == password.encode()
    assert plain.endswith(b"\0")


@pytest.mark.parametrize(("arguments", "text"), [([], "usage"), (["pristine", "12"], "usage"), (["other", "15"], "")])
def test_the_build_script_refuses_politely(arguments: list[str], text: str) -> None:
    done = subprocess.run([str(IMAGES / "build.sh"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert text in done.stderr


TART = """#!/bin/sh
[ "$1" = list ] && printf '%s\\n' $FAKE_IMAGES
printf 'tart %s\\n' "$*" >>"$FAKE_LOG"
"""


def built(tmp_path: Path, lane: str, images: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    for name, text in (("tart", TART), ("packer", '#!/bin/sh\nprintf \'packer %s\\n\' "$*" >>"$FAKE_LOG"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FAKE_LOG": str(log), "FAKE_IMAGES": images}
    done = subprocess.run(
        [str(IMAGES / "build.sh"), lane, "15"], env=environment, capture_output=True, text=True, check=False
    )
    return done, log.read_text().splitlines()


def test_the_lanes_are_built_in_their_order(tmp_path: Path) -> None:
    done, calls = built(tmp_path, "instrumented", "sysext-15-pristine other")
    assert done.returncode == 0, done.stderr
    builds = [re.sub(r" -var-file \S+", "", call) for call in calls if call.startswith("packer build")]
    assert [build.split()[-1] for build in builds] == ["sip", "instrumented", "sip", "instrumented"]
    names = [re.findall(r"vm(?:_base)?_name=(\S+)", build) for build in builds]
    assert [pair[0] for pair in names] == ["sysext-15-pristine", *[pair[1] for pair in names[:-1]]]
    assert names[-1][1] == "sysext-15-instrumented"
    left = {call.split()[-1] for call in calls if call.startswith("tart delete")}
    assert left == {pair[1] for pair in names[:-1]}
    assert not [call for call in calls if "admin" in call]


def test_an_image_that_exists_is_neither_built_over_nor_deleted(tmp_path: Path) -> None:
    for images in ("sysext-15-pristine sysext-15-instrumented", "sysext-15-pristine sysext-15-instrumented-granted"):
        done, calls = built(tmp_path, "instrumented", images)
        assert done.returncode == 1
        assert "exists; tart delete" in done.stderr
        assert not [call for call in calls if call.startswith(("packer", "tart delete"))]


def test_the_instrumented_lane_needs_the_pristine_one(tmp_path: Path) -> None:
    done, calls = built(tmp_path, "instrumented", "sysext-15-pristine-old")
    assert done.returncode == 1
    assert "build the pristine lane first" in done.stderr
    assert not [call for call in calls if call.startswith("packer")]
