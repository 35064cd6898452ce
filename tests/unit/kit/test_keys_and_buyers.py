"""Keys from files, buyers' ids, short hashes."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.buyers import buyer_id, short_hash, to_raw, to_text
from services.kit.keys import SymmetricKey, load_ring
from services.kit.settings import SettingError

KEY = SymmetricKey("a", b"k" * 32)


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
        [{"id": "a", "key": "ab" * 32, "active_from": "soon"}],
        [{"id": "a", "key": "ab" * 32, "active_from": -1}],
        [{"id": "a", "key": "ab" * 32, "active_from": True}],
        '[{"id": "a", "key": "%s", "made_at": NaN}]' % ("ab" * 32),
        '[{"id": "a", "key": "%s", "active_from": 1e999}]' % ("ab" * 32),
        [{"id": "a", "key": "ab" * 32}, {"id": "b", "key": "cd" * 32, "active_from": 1}],
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_ring_names_the_setting_and_no_secret(tmp_path: Path, content: object) -> None:
    with pytest.raises(SettingError) as caught:
        load_ring(written(tmp_path, content), "admission_key_file")
    assert caught.value.variable == "CATRACA_ADMISSION_KEY_FILE"
    assert "abab" not in str(caught.value)
    # Nor does a traceback show what the library met.
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"CATRACA_X is .*nothing-here.* \(No such file or directory\); expected"
    ):
        load_ring(tmp_path / "nothing-here", "x")


def test_ids_depend_on_key_namespace_and_subject() -> None:
    other = SymmetricKey("a", b"K" * 32)
    ids = {
        buyer_id(KEY, "public", "ana"),
        buyer_id(KEY, "public", "bia"),
        buyer_id(KEY, "shop", "ana"),
        buyer_id(other, "public", "ana"),
    }
    assert len(ids) == 4
    assert buyer_id(KEY, "public", "ana") in ids
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
