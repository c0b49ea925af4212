"""Keep everything: when something fails, what the Mac knows is copied into the case file, with a manifest."""

from harness.evidence.case import CaseFolder, safe_name
from harness.evidence.collecting import collect, collect_before_reboot
from harness.evidence.manifest import Collection, Item, Manifest

__all__ = ["CaseFolder", "Collection", "Item", "Manifest", "collect", "collect_before_reboot", "safe_name"]
