"""What the lists show: the guest's extensions, and those of other apps that happen to wait as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.simulator.interfaces import GuestModel, Journal, PendingExtension
from harness.simulator.variations import Variations

OTHERS = (
    "Aardvark Filter",
    "Bluewater Proxy",
    "Cobalt Monitor",
    "Zebra Network Guard",
    "Dune Inspector",
    "Yonder Relay",
    "Ember Firewall",
    "Willow Tunnel",
    "Fathom Probe",
    "Violet Gateway",
    "Granite Sensor",
    "Umber Filter",
)


class Listed:
    """A `GuestModel` before another: its rows, with those of other apps around them (never behind all of ours)."""

    def __init__(self, model: GuestModel, variations: Variations, journal: Journal) -> None:
        self._model = model
        self._journal = journal
        self._name = variations.get("row-name")
        count = max(0, variations.rows - 1)
        self._others = [PendingExtension(f"sim.other.{index}", OTHERS[index], "network", waiting=True, enabled=False) for index in range(count)]  # fmt: skip

    def extensions(self) -> Sequence[PendingExtension]:
        """One other first, then the guest's, then the rest; with seven or more, the guest's stand last: below the fold."""
        first = len(self._others) if len(self._others) >= 6 else 1
        return [*self._others[:first], *self._model.extensions(), *self._others[first:]]

    def named(self, item: PendingExtension) -> str:
        """What a row is called."""
        if self._name.startswith("developer:") and item not in self._others:
            return self._name.removeprefix("developer:")
        return item.app_name

    def check_password(self, password: str) -> bool:
        """See `GuestModel`."""
        return self._model.check_password(password)

    def allow(self, identifier: str) -> None:
        """See `GuestModel`; that another app's extension was approved is written down."""
        self._switch(identifier, enabled=True)

    def disallow(self, identifier: str) -> None:
        """See `GuestModel`."""
        self._switch(identifier, enabled=False)

    def remove(self, identifier: str) -> None:
        """See `GuestModel`; that another app's extension was removed is written down."""
        for item in self._others:
            if item.identifier == identifier:
                self._others.remove(item)
                self._journal.write("other-extension", app=item.app_name, enabled=None)
                return
        self._model.remove(identifier)

    def _switch(self, identifier: str, *, enabled: bool) -> None:
        for index, item in enumerate(self._others):
            if item.identifier == identifier:
                self._others[index] = dataclasses.replace(item, waiting=False, enabled=enabled)
                self._journal.write("other-extension", app=item.app_name, enabled=enabled)
                return
        (self._model.allow if enabled else self._model.disallow)(identifier)
