"""Header blocks of HTTP/2 (RFC 7541), as far as a client needs them that sends the same few over and over.

What every call of a connection has is put into the table of the other side once, by its first call, and is
one byte from then on, as from any client; what differs from call to call is written out.
"""

from collections.abc import Sequence

Header = tuple[str, str]

# Of the static table.
_METHOD_POST, _SCHEME_HTTP, _PATH = 3, 6, 4
_STATIC = 61
# What a table holds unless something else is agreed, and what each entry counts beside its text.
_TABLE_BYTES, _ENTRY_BYTES = 4096, 32
_INDEXED, _KEPT, _WRITTEN_OUT = 0x80, 0x40, 0x00


class Headers:
    """Makes blocks for connections that all begin with the same first call."""

    def __init__(self, shared: Sequence[Header]) -> None:
        """`shared` are the headers that every call has. Raises ValueError where no table can hold them."""
        self._shared = list(shared)
        if sum(len(name) + len(value) + _ENTRY_BYTES for name, value in shared) > _TABLE_BYTES:
            raise ValueError("these headers are larger than the table")

    def first(self, path: str) -> bytes:
        """The block that puts the shared headers into the table."""
        kept = (bytes([_KEPT]) + _text(name) + _text(value) for name, value in self._shared)
        return b"".join([_start(path), *kept])

    def block(self, path: str, *own: Header) -> bytes:
        """The block of any call after the first. `own` are its headers beside the shared ones."""
        count = len(self._shared)
        shared = (_number(_INDEXED, 7, _STATIC + count - place) for place in range(count))
        written = (bytes([_WRITTEN_OUT]) + _text(name) + _text(value) for name, value in own)
        return b"".join([_start(path), *shared, *written])


def _start(path: str) -> bytes:
    return bytes([_INDEXED | _METHOD_POST, _INDEXED | _SCHEME_HTTP, _PATH]) + _text(path)


def _text(text: str) -> bytes:
    data = text.encode("ascii")
    return _number(0, 7, len(data)) + data


def _number(flags: int, bits: int, value: int) -> bytes:
    """An integer with a prefix of so many bits."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([flags | value])
    encoded = [flags | most]
    value -= most
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
