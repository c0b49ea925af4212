"""Upgrade paths: which release over which, in which way, in which state before. Pure planning: nothing here touches a Mac."""

from harness.upgrades.cells import Cell, cell_id, cells, refusal
from harness.upgrades.expectations import Expectation, expect
from harness.upgrades.expression import default_paths, parse, select
from harness.upgrades.paths import How, Relation, State, Step, UpgradePath, impossible, relation

__all__ = [
    "Cell",
    "Expectation",
    "How",
    "Relation",
    "State",
    "Step",
    "UpgradePath",
    "cell_id",
    "cells",
    "default_paths",
    "expect",
    "impossible",
    "parse",
    "refusal",
    "relation",
    "select",
]
