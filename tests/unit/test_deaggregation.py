"""The class file, read back by the rules of the Java Virtual Machine Specification."""

import struct
from pathlib import Path

from consumer.deaggregation import FOLDER, build_class, write_classes


def _pool(body: bytes) -> tuple[list[bytes], int]:
    """The constants (content without their tag, from 1) and where they end."""
    count, place = struct.unpack(">H", body[8:10])[0], 10
    found = [b""]
    while len(found) < count:
        tag = body[place]
        size = 2 + struct.unpack(">H", body[place + 1 : place + 3])[0] if tag == 1 else 0
        size = size or (2 if tag in (7, 8) else 4)
        found.append(body[place + 1 : place + 1 + size])
        place += 1 + size
    return found, place


def test_the_class_is_the_one_that_the_kcl_asks_for() -> None:
    body = build_class()
    assert body[:8] == b"\xca\xfe\xba\xbe" + struct.pack(">HH", 0, 52)
    pool, end = _pool(body)
    _, this, parent = struct.unpack(">HHH", body[end : end + 6])
    names = [pool[struct.unpack(">H", pool[number])[0]][2:] for number in (this, parent)]
    assert names == [b"javax/xml/bind/DatatypeConverter", b"java/lang/Object"]


def test_its_method_throws_what_the_kcl_takes_for_no_aggregate() -> None:
    body = build_class()
    pool, end = _pool(body)
    _, name, signature, _, _, _, stack, variables, size = struct.unpack(
        ">HHHHHIHHI", body[end + 12 : end + 34]
    )
    assert (pool[name][2:], pool[signature][2:]) == (
        b"printBase64Binary",
        b"([B)Ljava/lang/String;",
    )
    code = body[end + 34 : end + 34 + size]
    thrown = struct.unpack(">H", code[1:3])[0]
    named = pool[struct.unpack(">H", pool[thrown])[0]][2:]
    assert named == b"com/google/protobuf/InvalidProtocolBufferException"
    assert (code[0], code[3], code[4], code[7], code[-1]) == (0xBB, 0x59, 0x13, 0xB7, 0xBF)
    # The object twice and its message; the array that the method is called with.
    assert (stack, variables) == (3, 1)


def test_it_lies_where_java_looks_for_it(tmp_path: Path) -> None:
    write_classes(tmp_path)
    path = tmp_path / FOLDER / "javax" / "xml" / "bind" / "DatatypeConverter.class"
    assert path.read_bytes() == build_class()
    write_classes(tmp_path)
