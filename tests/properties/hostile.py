"""Bytes that a stranger might put on a stream."""

import gzip
import re
from typing import Any

import orjson
from hypothesis import strategies as st

CARD = "4111111111111111"
NUMBERS = st.sampled_from(
    [
        *("NaN", "Infinity", "-Infinity", "1e999999", "-1e999999", "1e-999999", "0e999999"),
        *("1E400", "-0", "-0.0", "00", "01", "+1", ".5", "5.", "1_000", "0x10", "1e", "1e+"),
        *(
            "9" * 25,
            "9" * 5_000,
            "0." + "9" * 5_000,
            "1" + "0" * 400,
            CARD,
            CARD + ".0",
            "4.111e15",
        ),
        *(str(2**53), str(-(2**53)), str(2**63), str(2**64), "1e15", "1099511627775.99"),
    ]
)
ODD_TEXTS = st.sampled_from(
    [
        *("\\ud800", "\\udc00\\ud800", "\\ud83d\\ude00", "\\u0000", "\\u202e", "\\u0034" * 16),
        *("\\", "\\x41", "\\u12", "\u2028", "\ufeff", "\u0660" * 16, "\x00", "\x7f", "\t", "\n"),
        *(" ", "x" * 70_000, "é" * 300, CARD, "4111 1111 1111 1111", "4111-1111-1111-1111"),
        *("\u0664" + "\u0661" * 15, f"card_{CARD}", f"{CARD}\\n", "pan:k1:" + "0" * 32),
        *("2026-02-30T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00"),
        *("2026-05-01T12:30:60Z", "2026-05-01T12:30:00.1234567890123Z", "2026-05-01 12:30:00z"),
        *("::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4.5", "01.2.3.4", ":" * 50, "1.5", "1e5", "-1"),
    ]
)
VALUES = st.one_of(
    NUMBERS.map(str.encode),
    ODD_TEXTS.map(lambda text: b'"' + text.encode("utf-8", "surrogatepass") + b'"'),
    st.binary(max_size=12).map(lambda raw: b'"' + raw + b'"'),
    st.sampled_from([b"null", b"true", b"[]", b"{}", b'{"a":{}}', b"", b"nul", b"'x'", b"//"]),
    st.builds(
        lambda opening, depth: opening * depth,
        st.sampled_from([b"[", b'{"a":', b'[{"b":', b"[[],"]),
        st.sampled_from([7, 9, 900, 1_100, 30_000]),
    ),
)


@st.composite
def rewritten(draw: st.DrawFn, event: dict[str, Any]) -> bytes:
    """*event* with the raw JSON of some fields exchanged, and some keys written twice."""
    parts = {orjson.dumps(name): orjson.dumps(value) for name, value in event.items()}
    pairs = list(parts.items())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(pairs) - 1))
        value = draw(st.one_of(VALUES, st.just(pairs[place][1])))
        if draw(st.integers(0, 4)) == 0:
            pairs.append((pairs[place][0], value))
        else:
            pairs[place] = (pairs[place][0], value)
    space = draw(st.sampled_from([b"", b" ", b"\n\t", b"\x0b", b"\xef\xbb\xbf", b"\x00"]))
    body = (b"," + space).join(key + b":" + space + value for key, value in pairs)
    return draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b" "])) + b"{" + body + b"}"


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """*data* with some bytes flipped, cut out, doubled, or its end missing."""
    raw = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        if not raw:
            break
        place = draw(st.integers(0, len(raw) - 1))
        how = draw(st.sampled_from(["flip", "cut", "double", "end"]))
        if how == "flip":
            raw[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "end":
            del raw[place:]
        else:
            piece = raw[place : place + draw(st.integers(1, 40))]
            raw[place : place + len(piece)] = b"" if how == "cut" else piece * 2
    return bytes(raw)


@st.composite
def packed(draw: st.DrawFn, data: bytes) -> bytes:
    """*data* plain or in gzip: whole, cut, in members, twice, or with something behind it."""
    level = draw(st.sampled_from([0, 1, 9]))
    whole = gzip.compress(data, level, mtime=0)
    cut = draw(st.integers(0, len(data)))
    return draw(
        st.sampled_from(
            [
                data,
                whole,
                whole[: max(2, len(whole) - 1 - cut % 20)],
                whole + data[:20],
                whole + b"\0" * 8,
                gzip.compress(data[:cut], level) + gzip.compress(data[cut:], level),
                gzip.compress(b"") * (cut % 80) + whole,
                gzip.compress(whole, level),
                # The flags of the header: a name, a comment, further fields, a checksum of it.
                whole[:3] + bytes([whole[3] | 1 << cut % 8]) + whole[4:],
            ]
        )
    )


def digits_of(text: str) -> str:
    """The digits of *text* alone, of any script, as a card number would be searched for."""
    return "".join(str(int(sign)) for sign in re.sub(r"\D", "", text))
