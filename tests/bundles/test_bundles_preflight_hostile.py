"""Anything may stand in an Info.plist, in entitlements and in profiles: judging it ends with findings, never with a crash."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles.facts import CodeItem, Inspection
from harness.bundles.inspection import inspect_app
from harness.bundles.preflight import Release, judge
from harness.bundles.preflight.matrix import as_markdown, as_text, row
from harness.bundles.preflight.output import WIDTH, as_github, as_json
from harness.bundles.preflight.output import as_text as report_text
from harness.bundles.preflight.rules import load_rules, read_rules
from harness.bundles.preflight.sarif import as_sarif, uri_of
from harness.errors import HarnessError

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["S8XHQB96PW.*", "group.x\ny", "1.0", "999999999999999.9", "[x]", "\x1b[31m"]
)
VALUES = st.recursive(
    TEXTS
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=8)
    | st.none()
    | st.just(datetime(2025, 1, 1, tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
INFO = st.sampled_from(
    [
        "NetworkExtension",
        "CMIOExtension",
        "IOKitPersonalities",
        "LSMinimumSystemVersion",
        "NSSystemExtensionUsageDescription",
        "NSEndpointSecurityMachServiceName",
    ]
)
ENTITLEMENTS = st.sampled_from(
    [
        "com.apple.developer.networking.networkextension",
        "com.apple.developer.system-extension.install",
        "com.apple.security.application-groups",
        "com.apple.developer.driverkit.userclient-access",
        "com.apple.developer.driverkit",
        "com.apple.application-identifier",
        "com.apple.developer.team-identifier",
        "com.apple.security.get-task-allow",
        "com.apple.developer.driverkit.transport.usb",
    ]
)


@pytest.fixture(scope="module")
def real(app_0115: Path) -> Inspection:
    return inspect_app(app_0115)


def _altered(
    item: CodeItem, info: dict[str, Any], entitlements: dict[str, Any], granted: dict[str, Any], fields: dict[str, str]
) -> CodeItem:
    assert item.profile is not None
    return dataclasses.replace(
        item,
        info={**item.info, **info},
        slices=tuple(
            dataclasses.replace(part, entitlements={**part.entitlements, **entitlements}) for part in item.slices
        ),
        profile=dataclasses.replace(item.profile, entitlements={**item.profile.entitlements, **granted}),
        **fields,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    info=st.dictionaries(INFO, VALUES, max_size=4),
    entitlements=st.dictionaries(ENTITLEMENTS, VALUES, max_size=5),
    granted=st.dictionaries(ENTITLEMENTS, VALUES, max_size=5),
    fields=st.fixed_dictionaries({}, optional={"version": TEXTS, "build": TEXTS, "bundle_id": TEXTS, "package_type": TEXTS}),
    names=st.lists(TEXTS, max_size=4),
)  # fmt: skip
def test_judging_never_crashes(
    real: Inspection,
    info: dict[str, Any],
    entitlements: dict[str, Any],
    granted: dict[str, Any],
    fields: dict[str, str],
    names: list[str],
) -> None:
    odd = dataclasses.replace(
        real,
        extensions=tuple(_altered(item, info, entitlements, granted, fields) for item in real.extensions),
        app=_altered(real.app, info, entitlements, granted, fields),
        tree=(*real.tree, *(f"{name}/" for name in names)),
    )
    new, old = Release("new\x1b", odd, origin="a b\x07.zip"), Release("old", real)
    for first, second in ((old, new), (new, old), (new, new)):
        report = judge(second, first)
        text = report_text([report], verbose=True)
        assert max(len(line) for line in text.splitlines()) <= WIDTH
        table = as_text([row(first, second)])
        assert max(len(line) for line in table.splitlines()) <= WIDTH
        assert json.loads(as_json([report]))[0]["ok"] == report.ok
        assert "\x1b" not in text + table + as_github([report]) + as_markdown([row(first, second)])
        assert len(json.loads(as_sarif([report]))["runs"][0]["results"]) == len(report.findings)


def test_control_characters_of_versions_reach_no_table(real: Inspection) -> None:
    odd = dataclasses.replace(
        real, extensions=tuple(dataclasses.replace(item, version="3\x1b[31m\n") for item in real.extensions)
    )
    told = row(Release("old", real), Release("new", odd))
    assert "\\x1b[31m\\x0a" in as_markdown([told])
    assert len(as_markdown([told]).splitlines()) == 3


@given(st.text(max_size=60))
def test_any_origin_is_a_uri(text: str) -> None:
    assert uri_of(text).isascii()
    assert " " not in uri_of(text)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (('severity = "error"', 'severity = "fatal"'), "known severity"),
        (("title = ", "titel = "), "whole rule"),
        (('id = "package-type"', 'id = "usage-description"'), "once"),
    ],
)
def test_a_damaged_catalog_is_told(change: tuple[str, str], word: str) -> None:
    text = (Path(__file__).resolve().parents[2] / "harness/bundles/preflight/rules.toml").read_text(encoding="utf-8")
    assert list(read_rules(text)) == list(load_rules())
    with pytest.raises(HarnessError) as caught:
        read_rules(text.replace(*change))
    assert word in caught.value.expected
