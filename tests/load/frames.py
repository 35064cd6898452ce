"""gRPC-web's frames: five bytes of head, then a message, or the trailers as lines of text."""

import struct

HEAD = struct.Struct(">BI")
TRAILERS = 0x80


def framed(message: bytes) -> bytes:
    """One message as a request's body."""
    return HEAD.pack(0, len(message)) + message


def opened(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The message and the trailers of a whole answer; empty where there are none."""
    message, trailers = b"", dict[str, str]()
    while len(body) >= HEAD.size:
        kind, length = HEAD.unpack_from(body)
        content, body = body[HEAD.size : HEAD.size + length], body[HEAD.size + length :]
        if kind & TRAILERS:
            trailers = trailers_of(content)
        else:
            message = content
    return message, trailers


def trailers_of(content: bytes) -> dict[str, str]:
    """Lines of `name: value`."""
    lines = (line.partition(":") for line in content.decode("latin-1").split("\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}
