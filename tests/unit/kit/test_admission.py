"""Admissions: only ours, only for whom they were made, in the one spelling."""

import pytest
from catraca.queue.v1.queue_pb2 import AdmissionClaims
from hypothesis import given
from hypothesis import strategies as st

from services.kit import admission
from services.kit.errors import Refusal
from services.kit.keys import KeyRing, SymmetricKey

OLD, NEW = SymmetricKey("old", b"o" * 32), SymmetricKey("new", b"n" * 32)
CLAIMS = AdmissionClaims(
    sale="concert",
    buyer="b" * 26,
    place=7,
    allowance=4,
    turn_ends_at_ms=1,
    joined_at_ms=2,
    called_at_ms=3,
    id="x",
)
TOKEN = admission.mint(CLAIMS, KeyRing((NEW, OLD)))


def word_of(token: str, *, sale: str = "concert", buyer: str = "b" * 26, keys: KeyRing | None = None) -> str:
    try:
        claims = admission.verify(token, keys or KeyRing((NEW, OLD)), sale=sale, buyer=buyer)
    except Refusal as refusal:
        return refusal.word
    assert claims == CLAIMS
    return "FINE"


def test_a_token_brings_back_its_claims() -> None:
    assert word_of(TOKEN) == "FINE"


def test_keys_rotate() -> None:
    older = admission.mint(CLAIMS, KeyRing((OLD,)))
    assert word_of(older) == "FINE"
    assert word_of(older, keys=KeyRing((NEW,))) == "ADMISSION_INVALID"
    # The same id with another secret is another key.
    assert word_of(older, keys=KeyRing((SymmetricKey("old", b"x" * 32),))) == "ADMISSION_INVALID"


def test_it_is_no_ones_else() -> None:
    assert word_of(TOKEN, buyer="c" * 26) == "ADMISSION_FOREIGN"
    assert word_of(TOKEN, sale="other") == "ADMISSION_FOREIGN"


@pytest.mark.parametrize(
    "token", ["", ".", "new", "new.", "new.A", "new.AAAA", "new." + "A" * 5000, "new.ção", "\x00"]
)
def test_junk_is_refused(token: str) -> None:
    assert word_of(token) == "ADMISSION_INVALID"


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_any_other_character_anywhere_is_refused(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    assert word_of(changed) == ("FINE" if changed == TOKEN else "ADMISSION_INVALID")


@given(st.text(max_size=3))
def test_nothing_can_be_added(tail: str) -> None:
    assert word_of(TOKEN + tail) == ("FINE" if not tail else "ADMISSION_INVALID")
