"""Where one command and one reply of Redis's protocol (RESP2 and RESP3) end in a buffer."""

_NESTED = {b"*": 1, b"%": 2, b"~": 1, b">": 1, b"|": 2}
_BLOBS = (b"$", b"=", b"!")


def end_of(buffer: bytes | bytearray, start: int = 0) -> int | None:
    """The index behind the value at *start*; None while it is not whole."""
    line = buffer.find(b"\r\n", start)
    if line < 0:
        return None
    kind, head = bytes(buffer[start : start + 1]), bytes(buffer[start + 1 : line])
    after = line + 2
    if kind in _BLOBS:
        length = int(head)
        end = after if length < 0 else after + length + 2
        return end if len(buffer) >= end else None
    if kind not in _NESTED:
        return after
    for _ in range(max(int(head), 0) * _NESTED[kind]):
        inner = end_of(buffer, after)
        if inner is None:
            return None
        after = inner
    # An attribute stands before the value it belongs to.
    return end_of(buffer, after) if kind == b"|" else after


def is_push(value: bytes) -> bool:
    """Whether *value* was sent unasked and answers no command."""
    return value[:1] == b">"
