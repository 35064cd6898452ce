"""The reasons are the same in the contract, in the table of statuses, and wherever a call is refused."""

import re
from pathlib import Path

import grpc
import pytest

from services.kit.reasons import NEVER_A_STATUS, TABLE, WORDS

ROOT = Path(__file__).parents[2]
PROTO = (ROOT / "proto/catraca/errors/v1/errors.proto").read_text("utf-8")
# Word by its comment, without the slashes.
COMMENTS = {
    word: re.sub(r"\s*//\s*", " ", comment).strip()
    for comment, word in re.findall(r"((?:^  //.*\n)+)  REASON_(\w+) = \d+;", PROTO, re.MULTILINE)
    if word != "UNSPECIFIED"
}


def test_every_reason_has_a_status_or_is_never_one() -> None:
    assert set(COMMENTS) == WORDS
    assert set(TABLE) | NEVER_A_STATUS == WORDS
    assert not set(TABLE) & NEVER_A_STATUS


@pytest.mark.parametrize("word", sorted(WORDS))
def test_the_contract_names_the_status(word: str) -> None:
    comment = COMMENTS[word].rpartition("---- ")[2]
    if word in NEVER_A_STATUS:
        assert comment.startswith("Not a status: ")
    else:
        assert comment.startswith(f"{TABLE[word].code.name}. ")
        assert TABLE[word].code is not grpc.StatusCode.OK


@pytest.mark.parametrize("word", sorted(TABLE))
def test_a_hint_is_given_where_the_contract_promises_one(word: str) -> None:
    if COMMENTS[word].endswith("Carries RetryInfo."):
        assert TABLE[word].retry_after_s is not None
    if TABLE[word].retry_after_s is not None:
        assert TABLE[word].code is not grpc.StatusCode.INVALID_ARGUMENT


def test_what_a_person_reads_is_a_sentence() -> None:
    for word, row in TABLE.items():
        assert re.fullmatch(r"[A-Z].*\.", row.message), word


def test_every_refusal_in_the_code_is_of_the_list() -> None:
    used = {
        (path.name, word)
        for path in (ROOT / "services").rglob("*.py")
        for word in re.findall(r"""\bRefusal\(\s*["'](\w+)["']""", path.read_text("utf-8"))
    }
    assert len(used) > 20
    assert {each for each in used if each[1] not in TABLE} == set()
