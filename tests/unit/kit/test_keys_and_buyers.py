"""Keys from files, buyers' ids, short hashes."""

import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.kit.buyers import buyer_id, short_hash, to_raw, to_text
from services.kit.keys import KeyRing, SymmetricKey, load_ring, load_signing_key, load_single, verifies
from services.kit.settings import SettingError

RING = KeyRing((SymmetricKey("a", b"k" * 32),))


def written(folder: Path, content: object) -> Path:
    path = folder / "keys.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_ring_keeps_the_files_order(tmp_path: Path) -> None:
    entries = [{"id": "new", "key": "ab" * 32}, {"id": "old", "key": "cd" * 64}]
    ring = load_ring(written(tmp_path, entries), "admission_key_file")
    assert ring.newest == SymmetricKey("new", b"\xab" * 32)
    assert ring.get("old") == SymmetricKey("old", b"\xcd" * 64)
    assert ring.get("older") is None
    assert "abab" not in repr(ring)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        {},
        [],
        [1],
        [{"id": "a"}],
        [{"id": "a", "key": "xy"}],
        [{"id": "a", "key": "ab" * 31}],
        [{"id": "a", "key": "ab" * 65}],
        [{"id": "A b", "key": "ab" * 32}],
        [{"id": 1, "key": "ab" * 32}],
        [{"id": "a", "key": "ab" * 32}, {"id": "a", "key": "cd" * 32}],
    ],
)
def test_a_file_that_is_no_ring_names_the_setting_and_no_secret(tmp_path: Path, content: object) -> None:
    with pytest.raises(SettingError) as caught:
        load_ring(written(tmp_path, content), "admission_key_file")
    assert caught.value.variable == "CATRACA_ADMISSION_KEY_FILE"
    assert "abab" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"CATRACA_X is .*nothing-here.* \(No such file or directory\); expected"
    ):
        load_ring(tmp_path / "nothing-here", "x")


def test_ids_are_made_with_one_key_only(tmp_path: Path) -> None:
    path = written(tmp_path, [{"id": "a", "key": "ab" * 32}, {"id": "b", "key": "cd" * 32}])
    with pytest.raises(SettingError, match="exactly one key"):
        load_single(path, "buyer_hash_key_file")


def test_a_signing_key_signs_and_verifies(tmp_path: Path) -> None:
    path = tmp_path / "ticket.pem"
    path.write_bytes(pem(Ed25519PrivateKey.generate()))
    key = load_signing_key(path, "ticket_key_file")
    signature = key.sign(b"seat 7")
    assert re.fullmatch(r"[0-9a-f]{8}", key.id)
    assert verifies(key.public, signature, b"seat 7")
    assert not verifies(key.public, signature, b"seat 8")
    assert not verifies(key.public, b"", b"seat 7")
    assert not verifies(b"short", signature, b"seat 7")


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ticket.pem"
    for content in (pem(generate_private_key(SECP256R1())), b"junk"):
        path.write_bytes(content)
        with pytest.raises(SettingError, match="CATRACA_TICKET_KEY_FILE"):
            load_signing_key(path, "ticket_key_file")


def pem(key: Ed25519PrivateKey | object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_ids_depend_on_key_namespace_and_subject() -> None:
    other = KeyRing((SymmetricKey("a", b"K" * 32),))
    ids = {
        buyer_id(RING, "public", "ana"),
        buyer_id(RING, "public", "bia"),
        buyer_id(RING, "shop", "ana"),
        buyer_id(other, "public", "ana"),
    }
    assert len(ids) == 4
    assert buyer_id(RING, "public", "ana") in ids
    assert all(re.fullmatch(r"[a-z2-7]{26}", each) for each in ids)


@given(st.binary(min_size=16, max_size=16))
def test_raw_and_text_are_two_spellings_of_one_id(raw: bytes) -> None:
    assert to_raw(to_text(raw)) == raw


@pytest.mark.parametrize("text", ["", "a" * 25, "a" * 27, "A" * 26, "1" * 26, "a" * 25 + "b", "á" * 26])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        to_raw(text)


def test_short_hashes_tell_every_split_apart() -> None:
    splits = [("ab", "c"), ("a", "bc"), ("abc",), ("", "abc"), ("abc", ""), ("c", "ab")]
    assert len({short_hash(*split) for split in splits}) == len(splits)
    assert len(short_hash("x")) == 26
