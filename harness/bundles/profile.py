"""An embedded provisioning profile: a property list in a CMS message that Apple signed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from harness.bundles.cms import read_message, verify_message
from harness.bundles.der import DerError
from harness.bundles.facts import Profile
from harness.formats.failures import FormatError
from harness.formats.plists import load_plist, table_of, text_of, texts_of

MAX_PROFILE = 16 * 1024 * 1024


class ProfileError(ValueError):
    """Not a profile, or a damaged one."""


def read_profile(data: bytes, *, verify: bool = True) -> tuple[Profile, str]:
    """Read a profile.

    Returns:
        The profile, and why it is not verified ("" when it is, or nobody asked).

    Raises:
        ProfileError: It is damaged.
    """
    try:
        message = read_message(data)
        if message.content is None:
            raise ProfileError("a signature without a content")
        plist = load_plist(message.content, "the profile")
        why_not, signer = "", ""
        if verify:
            verdict = verify_message(message)
            signer = verdict.signer
            if not verdict.signature_ok:
                why_not = verdict.why_not
            elif not verdict.chain.trusted:
                why_not = f"its signer's certificate ({signer or 'unnamed'}) does not lead to an Apple root"
            elif verdict.signing_time is not None and not verdict.chain.valid_at(verdict.signing_time):
                why_not = "a certificate was not valid when it was signed"
            elif verdict.extra:
                why_not = "; ".join(verdict.extra)
    except FormatError as error:
        raise ProfileError(f"{error.expected}: {error.seen}") from error
    except DerError as error:
        raise ProfileError(str(error)) from error
    return _profile(plist, None if not verify else not why_not, signer), why_not


def _profile(plist: dict[str, Any], verified: bool | None, signer: str) -> Profile:  # noqa: FBT001 - a fact, not a switch
    certificates = plist.get("DeveloperCertificates")
    return Profile(
        name=text_of(plist.get("Name")),
        uuid=text_of(plist.get("UUID")),
        team=next(iter(texts_of(plist.get("TeamIdentifier"))), ""),
        created=_moment(plist.get("CreationDate")),
        expires=_moment(plist.get("ExpirationDate")),
        entitlements=table_of(plist.get("Entitlements")),
        certificates=tuple(
            hashlib.sha1(item, usedforsecurity=False).hexdigest()
            for item in (certificates if isinstance(certificates, list) else [])
            if isinstance(item, bytes)
        ),
        devices=texts_of(plist.get("ProvisionedDevices")),
        all_devices=plist.get("ProvisionsAllDevices") is True,
        platform=texts_of(plist.get("Platform")),
        verified=verified,
        signer=signer,
    )


def _moment(value: object) -> datetime | None:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else None
