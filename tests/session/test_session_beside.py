"""Companions: brought one after the other, judged apart from ours; what goes wrong with them says nothing about our product."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_app
from harness.errors import EnvironmentFailure, HarnessError, ProductFailure, SysextError, UsageError
from harness.session import beside
from harness.session.beside import keep_company
from harness.session.mac import Mac

FILE = """
{more}
name = "{name}"
bundle_id = "com.example.{name}"
[extension]
id = "com.example.{name}.extension"
kind = "content-filter"
[[releases]]
version = "1"
source = "{name}.app"
"""


def _file(folder: Path, name: str, more: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(FILE.format(name=name, more=more), encoding="utf-8")
    return path


class _Stage:
    """A Mac of which only what is done is of interest; `trouble` says what is raised, and for which app."""

    def __init__(self, app: Any, case: Any, done: list[str], trouble: dict[str, SysextError]) -> None:
        self.app, self.case, self.done, self.trouble = app, case, done, trouble
        self.name = "vm"

    def beside(self, app: Any) -> _Stage:
        return _Stage(app, self.case, self.done, self.trouble)

    def _did(self, what: str) -> None:
        self.done.append(f"{what} {self.app.name}")
        if error := self.trouble.get(f"{what} {self.app.name}"):
            raise error

    def install(self) -> None:
        self._did("install")

    def expect_working(self) -> None:
        self._did("works")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(trouble: dict[str, SysextError] | None = None, companions: str = "one.toml, two.toml") -> Any:
        for name in ("one", "two"):
            _file(tmp_path, name)
        listed = ", ".join(f'"{name}"' for name in companions.split(", "))
        app = load_app(_file(tmp_path, "ours", f"companions = [{listed}]"))
        case = SimpleNamespace(prompt_appeared=None, approvable=None)
        return _Stage(app, case, [], trouble or {})

    class Steps:
        def __init__(self, mac: Any) -> None:
            self.mac = mac

        def activate_and_approve(self) -> None:
            self.mac.case.prompt_appeared = f"approve {self.mac.app.name}" not in self.mac.trouble
            self.mac.case.approvable = True
            self.mac._did("approve")

    monkeypatch.setattr(beside, "ApprovalSteps", Steps)
    monkeypatch.setattr(beside, "others_on", lambda _: [])
    return make


def test_each_is_installed_approved_and_seen_to_work_before_ours(stage: Any) -> None:
    mac = stage()
    company = keep_company(mac)
    assert company.brought == ("one", "two")
    assert mac.done == ["install one", "approve one", "works one", "install two", "approve two", "works two"]
    assert (mac.case.prompt_appeared, mac.case.approvable) == (None, None)
    company.expect_unharmed()
    assert mac.done[-2:] == ["works one", "works two"]


@pytest.mark.parametrize("where", ["install two", "approve two", "works two"])
def test_one_that_cannot_be_brought_is_the_environments_failure_and_says_nothing_of_ours(
    stage: Any, where: str
) -> None:
    mac = stage({where: ProductFailure("a prompt", seen="none")})
    with pytest.raises(EnvironmentFailure, match="two to work on vm before ours comes") as caught:
        keep_company(mac)
    assert "two.toml" in caught.value.hint
    assert (mac.case.prompt_appeared, mac.case.approvable) == (None, None)


def test_trouble_that_is_nobodys_product_stays_what_it_is(stage: Any) -> None:
    with pytest.raises(HarnessError, match="a shell") as caught:
        keep_company(stage({"install one": HarnessError("a shell", seen="none")}))
    assert not isinstance(caught.value, EnvironmentFailure)


def test_a_file_that_is_missing_is_found_before_anything_is_installed(stage: Any) -> None:
    mac = stage(companions="one.toml, three.toml")
    with pytest.raises(UsageError, match=r"three\.toml"):
        keep_company(mac)
    assert mac.done == []


def test_a_companion_that_ours_has_broken_is_ours_to_answer_for(stage: Any) -> None:
    mac = stage()
    company = keep_company(mac)
    mac.trouble["works two"] = ProductFailure("endpoints", seen="none")
    with pytest.raises(ProductFailure, match="endpoints"):
        company.expect_unharmed()


def test_beside_is_the_same_mac_with_an_oracle_of_its_own(tmp_path: Path) -> None:
    mac = Mac.__new__(Mac)
    mac.name, mac.release = "vm", "9"
    mac.app = load_app(_file(tmp_path, "ours"))
    mac.guest = SimpleNamespace(name="vm")  # type: ignore[assignment]
    mac.case = SimpleNamespace()  # type: ignore[assignment]
    mac.oracle = mac.installed = object()  # type: ignore[assignment]
    mac._activations = []
    other = mac.beside(load_app(_file(tmp_path, "one")))
    assert (other.app.name, other.release, other.installed) == ("one", None, None)
    assert other.oracle.app.extension.id == "com.example.one.extension"
    assert other._activations is mac._activations  # a restart ends the apps of both
    assert (other.guest, other.case) == (mac.guest, mac.case)
    assert (mac.app.name, mac.release) == ("ours", "9")
