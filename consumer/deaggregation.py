"""
Lets the KCL hand over an aggregate of the KPL that it cannot take apart, as one record.

KCL 3.1.3 splits aggregated records in ``AggregatorUtil.deaggregate``. A user record that names
a key which the aggregate does not have fails there, and for its log the KCL then calls
``javax.xml.bind.DatatypeConverter``, which Java has not had since version 11: the Error passes
every handler, and the whole delivery is skipped ("The incoming data has been skipped"), up to
``kcl.max_records`` records, without a trace but that line. With the class in place it would
log the data and drop the rest of the aggregate.

The class that we put there throws ``InvalidProtocolBufferException`` instead. The call stands
inside the block that catches this exception and keeps the record as it came, which is what
the KCL does with any other aggregate it cannot read. The worker then dead-letters it.
"""

import struct
from pathlib import Path

FOLDER = "classes"
"""Below the run directory, in front of the KCL's jars."""

_NAME = "javax/xml/bind/DatatypeConverter"
_THROWN = "com/google/protobuf/InvalidProtocolBufferException"
_MESSAGE = "the aggregate names a key that it does not have"

# Java 8, the lowest that the KCL runs on (The Java Virtual Machine Specification, 4.1).
_VERSION = 52
_PUBLIC, _STATIC, _FINAL, _SUPER = 0x0001, 0x0008, 0x0010, 0x0020
_UTF8, _CLASS, _STRING, _METHOD, _NAME_AND_TYPE = 1, 7, 8, 10, 12


def write_classes(run_dir: Path) -> None:
    """Write the class below *run_dir*. Raises OSError."""
    path = run_dir / FOLDER / f"{_NAME}.class"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build_class())


def build_class() -> bytes:
    """
    The class as Java loads it, with one method.

    ``public static String printBase64Binary(byte[])`` throws and does nothing else.
    """
    pool = _Pool()
    this, parent = pool.named_class(_NAME), pool.named_class("java/lang/Object")
    thrown = pool.named_class(_THROWN)
    make = pool.method(thrown, "<init>", "(Ljava/lang/String;)V")
    message = pool.add(_STRING, struct.pack(">H", pool.text(_MESSAGE)))
    name, signature = pool.text("printBase64Binary"), pool.text("([B)Ljava/lang/String;")
    code_name = pool.text("Code")
    # new, dup, ldc_w, invokespecial, athrow (4.10 needs no frames without branches).
    code = struct.pack(">BHBBHBHB", 0xBB, thrown, 0x59, 0x13, message, 0xB7, make, 0xBF)
    body = struct.pack(">HHI", 3, 1, len(code)) + code + struct.pack(">HH", 0, 0)
    method = struct.pack(">HHHH", _PUBLIC | _STATIC, name, signature, 1)
    method += struct.pack(">HI", code_name, len(body)) + body
    return (
        struct.pack(">IHH", 0xCAFEBABE, 0, _VERSION)
        + pool.packed()
        + struct.pack(">HHH", _PUBLIC | _FINAL | _SUPER, this, parent)
        # No interfaces, no fields, one method, no attributes.
        + struct.pack(">HHH", 0, 0, 1)
        + method
        + struct.pack(">H", 0)
    )


class _Pool:
    """The constants of a class file, numbered from 1 (4.4)."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []

    def add(self, tag: int, content: bytes) -> int:
        self._entries.append(bytes([tag]) + content)
        return len(self._entries)

    def text(self, text: str) -> int:
        encoded = text.encode("ascii")
        return self.add(_UTF8, struct.pack(">H", len(encoded)) + encoded)

    def named_class(self, name: str) -> int:
        return self.add(_CLASS, struct.pack(">H", self.text(name)))

    def method(self, owner: int, name: str, signature: str) -> int:
        both = struct.pack(">HH", self.text(name), self.text(signature))
        return self.add(_METHOD, struct.pack(">HH", owner, self.add(_NAME_AND_TYPE, both)))

    def packed(self) -> bytes:
        return struct.pack(">H", len(self._entries) + 1) + b"".join(self._entries)
