"""Compressed files as streams, by their first bytes: gzip, bzip2, xz with a limit on the memory it may ask for."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import IO

from harness.bundles.sink import CHUNK, Readable

XZ_MEMORY = 256 * 1024 * 1024
"""Bytes. `xz -9` needs 65 MB to decompress; a header may claim 4 GB."""
XZ_MAGIC = b"\xfd7zXZ\0"


class XzStream:
    """An xz file, possibly of several streams, read piece by piece.

    Raises (from `read`):
        lzma.LZMAError: Damaged, or it asks for more memory than `XZ_MEMORY`.
        EOFError: It is cut off.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        self._rest = b""

    def read(self, size: int = CHUNK, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        while True:
            if self._decompressor.eof:
                # Between streams there may be padding of zeros; behind the last there is nothing else.
                self._rest = (self._decompressor.unused_data or self._rest).lstrip(b"\0") or self._source.read(CHUNK)
                if not self._rest.strip(b"\0"):
                    return b""
                self._rest = self._rest.lstrip(b"\0")
                self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            elif self._decompressor.needs_input and not self._rest:
                self._rest = self._source.read(CHUNK)
                if not self._rest:
                    raise EOFError("the compressed data ends too early")
            given, self._rest = self._rest, b""
            if data := self._decompressor.decompress(given, size):
                return data


def decompressed(file: IO[bytes]) -> Readable:
    """The content of a possibly compressed file, which must be seekable."""
    head = file.read(6)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if head == XZ_MAGIC:
        return XzStream(file)
    if head[:3] == b"BZh":
        return bz2.BZ2File(file)
    return file
