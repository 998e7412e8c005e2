"""
Gzip from strangers, decompressed within a limit.

A kilobyte of gzip can hold a megabyte of zeros, so no more than the limit is
ever produced. Several members behind each other are one text (RFC 1952,
section 2.2), as concatenated files are; their number is limited too, because
each empty one costs time and no output.
"""

import zlib

from consumer.errors import Rejected

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_MAX_MEMBERS = 64
# What gzip adds to data that does not compress: header, trailer, block headers.
_OVERHEAD_BYTES = 1_024
_STEP_BYTES = 64


def inflate(data: bytes, limit: int) -> bytes:
    """
    Decompress *data* to at most *limit* bytes.

    Raises Rejected: ``bad_gzip`` when it is corrupt, cut, followed by something
    else or of too many members, ``too_large`` when more than *limit* bytes come
    out or far more than that go in.
    """
    text = b""
    if len(data) > limit + _OVERHEAD_BYTES:
        raise _too_large(limit)
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            # Never 0, which zlib takes for "no limit".
            text += member.decompress(data, limit + 1 - len(text))
        except zlib.error as error:
            raise _bad_gzip() from error
        if len(text) > limit:
            raise _too_large(limit)
        if not member.eof:
            raise _bad_gzip()
        data = member.unused_data
        if not data:
            return text
    raise _bad_gzip()


def inflate_prefix(data: bytes, limit: int) -> bytes:
    """Decompress the first *limit* bytes of *data*, or what there is before it turns corrupt."""
    text = b""
    data = data[: limit + _OVERHEAD_BYTES]
    try:
        for _ in range(_MAX_MEMBERS):
            member = zlib.decompressobj(_GZIP_WINDOW)
            # In small steps, because an error loses the output of its whole step.
            while data and not member.eof:
                text += member.decompress(data[:_STEP_BYTES], limit - len(text))
                data = data[_STEP_BYTES:]
                if len(text) >= limit:
                    return text
            data = member.unused_data + data
    except zlib.error:
        pass
    return text


def _bad_gzip() -> Rejected:
    return Rejected(
        "bad_gzip", f"event: expected whole gzip data of at most {_MAX_MEMBERS} members"
    )


def _too_large(limit: int) -> Rejected:
    return Rejected("too_large", f"event: expected at most {limit} bytes when decompressed")
