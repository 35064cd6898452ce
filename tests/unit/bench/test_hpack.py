"""Header blocks as RFC 7541 writes them; its own examples where it has one."""

import pytest

from bench.hpack import Headers, _number


@pytest.mark.parametrize(
    ("value", "prefix_bits", "encoded"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"), (127, 7, "7f00")]
)
def test_numbers_are_those_of_the_rfc(value: int, prefix_bits: int, encoded: str) -> None:
    assert _number(0, prefix_bits, value).hex() == encoded


def test_what_all_calls_share_is_written_once_and_then_named_by_its_place() -> None:
    headers = Headers([("custom-key", "custom-header"), ("te", "trailers")])
    start = bytes([0x83, 0x86, 0x04, 2]) + b"/a"
    # The first is example C.2.1.
    first = bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572")
    assert headers.first("/a") == start + first + b"\x40\x02te\x08trailers"
    # The newest entry comes right after the static table.
    assert headers.block("/a", ("x", "1")) == start + bytes([0x80 | 63, 0x80 | 62]) + b"\x00\x01x\x011"


def test_headers_that_no_table_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="larger than the table"):
        Headers([("authorization", "x" * 4096)])
