"""The catalog: sound data, sound expressions, a page that tells of it; and no rule made for one sample."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.triage.catalog import (
    BENIGN,
    ERROR_NAMES,
    CatalogError,
    complaint_about,
    fold,
    load_catalog,
    read_catalog,
    request_error,
)
from harness.triage.matching import needed
from harness.triage.pages import cause_text, causes_page

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
VARIANTS = tomllib.loads((Path(__file__).parent / "variants.toml").read_text(encoding="utf-8"))
CATALOG = load_catalog()
SOUND = """
phase = "xpc-ipc"
[[cause]]
id = "a"
title = "A"
meaning = "An a."
severity = "fatal"
owner = "app code"
confidence = "poster"
remedy = "Mend it."
signs = [{ role = "decisive", text = "it broke" }]
"""


def expressions() -> list[tuple[str, str]]:
    return [
        (sign.key, text)
        for cause in CATALOG.causes.values()
        for sign in cause.signs
        for text in (sign.pattern, *sign.unless, *sign.with_, *sign.absent)
        if text is not None
    ]


def test_every_code_of_the_taxonomy_is_there_with_its_owner_and_severity() -> None:
    path = SHARED / "bench" / "triage" / "taxonomy.toml"
    if not path.exists():
        pytest.skip("../shared is absent: the taxonomy is there")
    for known in tomllib.loads(path.read_text(encoding="utf-8"))["cause"]:
        cause = CATALOG.get(known["id"])
        assert (cause.phase, cause.severity, cause.owner) == (known["phase"], known["severity"], known["owner"])


def test_every_cause_has_a_decisive_way_and_a_text_that_shows_it() -> None:
    shown = set(VARIANTS["failing"])
    by_facts_only = {"approval-prompt-missing", "invisible-prompt-until-reboot"}  # tests/triage/test_triage_history.py
    for cause in CATALOG.causes.values():
        if cause.of_our_own:  # tests/triage/test_triage_observed.py
            continue
        assert any(sign.role != "supporting" for sign in cause.signs), cause.id
        assert cause.id in shown | BENIGN | by_facts_only, cause.id


def test_expressions_have_a_part_by_which_to_find_them() -> None:
    """Without one, an expression is tried on each message of a gigabyte."""
    assert [key for key, text in expressions() if not needed(text)] == []


def test_expressions_end_soon_on_texts_made_to_hold_them_up() -> None:
    """Time grows with the length only: one that takes minutes would end this test by its time limit."""
    for _, expression in expressions():
        compiled = re.compile(expression, re.IGNORECASE)
        for part in ("a", "extension", "/Library/SystemExtensions/", "error = 3: ", *sorted(needed(expression))[:2]):
            compiled.search(part * (3000 // len(part)))


NOT_OURS = re.compile(
    r"\b[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12}\b|\b(?!com\.apple\.)(?:com|org|io|net|ch|dev|ai|at|sc)\.[a-z][\w-]+\.[\w.-]+"
    r"|\b(?:santa|lulu|tailscale|karabiner|mitmproxy|proton|adguard|obs|crowdstrike|proxyman|wireguard|little ?snitch)\b",
    re.IGNORECASE,
)


def test_no_sign_holds_a_text_of_one_sample() -> None:
    """No product's name, no bundle identifier but Apple's, no UUID."""
    for key, expression in expressions():
        plain = expression.replace("\\.", ".").replace("\\-", "-")
        assert not NOT_OURS.search(plain), (key, NOT_OURS.search(plain))


def test_needles_never_lose_a_match() -> None:
    """What the quick look leaves out would not have matched."""
    texts = [text for several in VARIANTS["failing"].values() for text in several] + VARIANTS["benign"]["texts"]
    folded = [fold(text) for text in texts]
    for key, expression in expressions():
        compiled, needles = re.compile(expression, re.IGNORECASE), needed(expression)
        for text in folded:
            if compiled.search(text):
                assert any(needle in text.lower() for needle in needles), (key, text)


@pytest.mark.parametrize("number", [number for number in ERROR_NAMES if number != 6])
@pytest.mark.parametrize(
    "form",
    [
        'Error Domain=OSSystemExtensionErrorDomain Code={} "(null)"',
        "(OSSystemExtensionErrorDomain error {}.)",
        "OSSystemExtensionErrorDomain:{}",
        "domain=OSSystemExtensionErrorDomain code={}",
        'domain: "OSSystemExtensionErrorDomain" - code: {}',
        "(OSSystemExtensionErrorDomain-Fehler {}.)",
        "OSSystemExtensionErrorDomainエラー{}",
        "AnySendableError(base: Error Domain=OSSystemExtensionErrorDomain Code={})",
        "code {} (OSSystemExtensionErrorDomain)",
        "system extension request failed with error {}",
    ],
)
def test_a_number_is_known_in_each_spelling_and_as_no_other(number: int, form: str) -> None:
    text = form.format(number)
    found = {other for other in ERROR_NAMES if re.search(request_error(other), text, re.IGNORECASE)}
    plain = number in (1, 11) and "Domain" not in text
    assert found == (set() if plain else {number})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("remedy =", "remdy ="), "remedy"),
        (('"decisive"', '"decided"'), "decided"),
        (('"xpc-ipc"', '"xpc-icp"'), "xpc-ipc"),
        (('"it broke"', '"(it broke"'), "sound expression"),
        (('"it broke"', '"(?:a{1,9}b?){1,9}c"'), "repetition inside"),
        (('"it broke"', '"(?:a+b?)c"'), "without a limit"),
        (('"it broke"', '".*broke"'), "without a limit"),
        (('"it broke"', '"[a-z]{0,50}.{0,50}broke"'), "side by side"),
        (('"it broke"', '"x?"'), "matches nothing"),
        (("signs = [", 'signs = [{ role = "decisive", text = "x y z", proces = ["a"] }, '), "process"),
        (('remedy = "Mend it."', 'remedy = "Mend it."\noutranks = ["b"]'), "known code"),
        (('remedy = "Mend it."', 'remedy = "Mend it."\noutranks = ["a"]'), "circles"),
        (('phase = "xpc-ipc"', "phase = "), "TOML"),
        (('text = "it broke"', 'match = "request-error", text = "99"'), "1 to 13"),
    ],
)
def test_a_damaged_file_is_refused_and_says_where(change: tuple[str, str], says: str) -> None:
    assert read_catalog({"a.toml": SOUND}).get("a").title == "A"
    with pytest.raises(CatalogError) as caught:
        read_catalog({"a.toml": SOUND.replace(*change)})
    assert says in str(caught.value)


def test_a_code_twice_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"again in b\.toml"):
        read_catalog({"a.toml": SOUND, "b.toml": SOUND})


def test_an_unknown_code_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="approval-pending"):
        CATALOG.get("aproval-pending")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab|()[]*+?{}.\\^$1,", max_size=20))
def test_any_expression_is_judged_without_an_error(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of sets that a later Python may read in another way
        if not complaint_about(text):
            re.compile(text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert "\n" not in fold(text)


def test_each_cause_can_be_explained_in_a_hundred_columns() -> None:
    for cause in CATALOG.causes.values():
        text = cause_text(cause)
        assert cause.id in text
        assert cause.remedy[:30] in text.replace("\n", " ")
        assert max(map(len, text.splitlines())) <= 140  # an expression has no blanks to break at


def test_the_page_is_made_from_the_data() -> None:
    page = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    assert causes_page(CATALOG).strip() in page, "run scripts/docs_tables.py --write"


def test_the_package_is_light_to_import() -> None:
    """Reading the door loads neither the engine nor the readers."""
    code = "import sys, harness.triage; sys.exit('harness.triage.engine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
