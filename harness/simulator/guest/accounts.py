"""The guest's accounts: who there is, with which password, who is an administrator. Kept on its disk, passwords only as salted hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass

from harness.simulator.interfaces import Disk

STORE = "/private/var/db/dslocal/nodes/Default/simulated-users.json"
FIRST_UID = 501
HOME_FOLDERS = ("Desktop", "Documents", "Downloads", "Library/Logs/DiagnosticReports", "Library/Preferences")
_ROUNDS = 1000
"""Few: these are passwords of a simulation, and every login asks."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}")


@dataclass(frozen=True)
class Account:
    """One person's account. `digest` is "" where no password was ever set: nobody logs in with it."""

    name: str
    uid: int
    real_name: str = ""
    administrator: bool = False
    home: str = ""
    shell: str = "/bin/zsh"
    salt: str = ""
    digest: str = ""


class Accounts:
    """All of them. The image's own administrator is always there."""

    def __init__(self, disk: Disk, administrator: str, password: str) -> None:
        self._disk = disk
        first = Account(administrator, FIRST_UID, administrator, administrator=True, home=f"/Users/{administrator}")
        self._first = _with_password(first, password)
        self._accounts = {administrator: self._first}

    def load(self) -> None:
        """Read what is on the disk; what cannot be read is not there."""
        self._accounts = {self._first.name: self._first}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            for item in json.loads(self._disk.path(STORE).read_text(encoding="utf-8")):
                account = Account(**item)
                self._accounts[str(account.name)] = account

    def get(self, name: str) -> Account | None:
        """The account of that name."""
        return self._accounts.get(name)

    def of_uid(self, uid: int) -> Account | None:
        """The account of that number."""
        return next((account for account in self._accounts.values() if account.uid == uid), None)

    def names(self) -> list[str]:
        """All names."""
        return sorted(self._accounts)

    def administrators(self) -> list[str]:
        """The names of those in the group admin."""
        return [name for name, account in sorted(self._accounts.items()) if account.administrator]

    def uid(self, name: str) -> int:
        """Its number; 0 for root, -2 (nobody) for whom there is not."""
        account = self._accounts.get(name)
        return account.uid if account is not None else 0 if name == "root" else -2

    def check(self, name: str, password: str) -> bool:
        """Whether that is its password."""
        account = self._accounts.get(name)
        return (
            account is not None
            and bool(account.digest)
            and hmac.compare_digest(account.digest, _digest(password, account.salt))
        )

    def add(self, name: str, *, uid: int | None = None, real_name: str = "", administrator: bool = False) -> Account:
        """Make an account, without a password and without a home folder.

        Raises:
            ValueError: There is one, the number is taken, or macOS would not take the name.
        """
        if not _NAME.fullmatch(name) or name in self._accounts or name == "root":
            raise ValueError(name)
        taken = {account.uid for account in self._accounts.values()}
        uid = uid if uid is not None else next(n for n in range(FIRST_UID, 1 << 16) if n not in taken)
        if uid in taken:
            raise ValueError(name)
        return self._put(Account(name, uid, real_name or name, administrator=administrator, home=f"/Users/{name}"))

    def change(self, name: str, **fields: object) -> Account:
        """Change fields of an account.

        Raises:
            KeyError: There is none.
        """
        return self._put(dataclasses.replace(self._accounts[name], **fields))  # type: ignore[arg-type]

    def set_password(self, name: str, password: str) -> None:
        """Give it another password.

        Raises:
            KeyError: There is none.
        """
        self._put(_with_password(self._accounts[name], password))

    def delete(self, name: str) -> None:
        """Take an account away; its home folder stays."""
        self._accounts.pop(name, None)
        self._save()

    def make_home(self, name: str) -> None:
        """Its home folder, with what is in it from the beginning."""
        account = self._accounts[name]
        for folder in HOME_FOLDERS:
            self._disk.path(f"{account.home}/{folder}").mkdir(parents=True, exist_ok=True)

    def _put(self, account: Account) -> Account:
        self._accounts[account.name] = account
        self._save()
        return account

    def _save(self) -> None:
        if self._disk.full:
            return
        path = self._disk.path(STORE)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps([dataclasses.asdict(account) for account in self._accounts.values()]))
        temporary.chmod(0o600)
        os.replace(temporary, path)  # noqa: PTH105 - never half a file


def _with_password(account: Account, password: str) -> Account:
    salt = secrets.token_hex(8)
    return dataclasses.replace(account, salt=salt, digest=_digest(password, salt))


def _digest(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode("utf-8", "surrogateescape"), salt.encode(), _ROUNDS).hex()
