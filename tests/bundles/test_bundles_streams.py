"""Compressed streams, above all xz: several streams in one, padding, cut off, and a header that asks for too much."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bundles.streams import XzStream, decompressed


def _all(data: bytes, size: int = 1000) -> bytes:
    stream = decompressed(io.BytesIO(data))
    out = b""
    while part := stream.read(size):
        assert len(part) <= size
        out += part
    return out


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, bz2.compress, bytes])
def test_each_compression(compress: object) -> None:
    assert callable(compress)
    content = bytes(range(256)) * 1000
    assert _all(compress(content)) == content


@given(
    parts=st.lists(st.binary(max_size=50), min_size=1, max_size=4), padding=st.integers(0, 3), size=st.integers(1, 60)
)
def test_several_xz_streams_with_padding(parts: list[bytes], padding: int, size: int) -> None:
    data = b"".join(lzma.compress(part, preset=0) + bytes(4 * padding) for part in parts)
    assert _all(data, size) == b"".join(parts)


@given(st.integers(1, 200))
def test_a_cut_off_xz_stream(cut: int) -> None:
    whole = lzma.compress(bytes(range(256)) * 4, preset=0)
    with pytest.raises((EOFError, lzma.LZMAError)):
        stream = XzStream(io.BytesIO(whole[: max(6, len(whole) - cut)]))
        while stream.read(100):
            pass


def test_xz_gets_no_more_memory_than_is_sensible() -> None:
    data = bytearray(lzma.compress(b"x", preset=0))
    header = slice(12, 12 + (data[12] + 1) * 4)  # of the first block: size, flags, filter 0x21, 1, dictionary, …, CRC
    assert data[14:16] == b"\x21\x01"
    data[16] = 38  # 2 GB
    data[header.stop - 4 : header.stop] = zlib.crc32(data[header][:-4]).to_bytes(4, "little")
    with pytest.raises(lzma.LZMAError, match=r"[Mm]emory"):
        _all(bytes(data))
