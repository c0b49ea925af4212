"""Pass phrases as Tart makes them for its VNC server: four words of the BIP-39 English list."""

from __future__ import annotations

import secrets

WORDS = (
    "abandon able absorb acid actor adapt again album alpha amber angle apple arena atom autumn badge bamboo basic beach "
    "bird blanket blossom bonus brave bridge bronze cabin cactus camera candy carbon castle cereal chalk cherry circle "
    "clock cloud coconut coral cotton crane cycle dance decade deer denial diesel dolphin dragon eagle echo elbow ember "
    "energy escape fabric falcon fiction flame forest frost galaxy garden ginger glass grape hammer harvest hello honey "
    "humor icon impact inner island ivory jacket jelly jungle kernel kiwi label ladder lemon lion lunar magnet maple "
    "marble mixed mother napkin noble north oasis ocean olive orange oxygen paddle panda pepper pilot planet quantum "
    "rabbit raven river rocket saddle salmon shadow silver solar spider stable sugar table tiger tobacco tunnel umbrella "
    "uncle valley velvet violin walnut whale window yellow zebra zone"
).split()


def passphrase() -> str:
    """Four words joined by hyphens. RFB uses the first eight bytes only."""
    return "-".join(secrets.choice(WORDS) for _ in range(4))
