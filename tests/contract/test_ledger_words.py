"""The ledger's words are the same in the contract's comments, the Lua headers and Python."""

import re
from pathlib import Path

import pytest

from services.inventory.states import WORDS
from services.inventory.store import LUA
from services.kit.lua import fragments, parse_header

PROTO = Path(__file__).parents[2] / "proto/catraca/inventory/v1/inventory.proto"
NOT_SERVED: set[str] = set()
# Commands that the service uses itself.
INTERNAL = {"define", "show", "ledger", "expire", "fill", "sold", "drop", "map"}


def words_in_the_contract() -> dict[str, set[str]]:
    """The words that the comment above each command names, by command."""
    text = PROTO.read_text("utf-8")
    found = {}
    for comment, name in re.findall(r"((?:^//.*\n)+)message (\w+)Command \{", text, re.MULTILINE):
        plain = " ".join(line.removeprefix("//").strip() for line in comment.splitlines())
        listed = re.sub(r"\([^)]*\)", "", plain.partition("Words:")[2]).partition(".")[0]
        found[name.lower()] = set(re.findall(r"\b[A-Z][A-Z_]+\b", listed))
    return found


@pytest.mark.parametrize("op", sorted(WORDS))
def test_the_lua_header_returns_them(op: str) -> None:
    header = parse_header((LUA / f"{op}.lua").read_text("utf-8"))

    assert set(header.returns) == WORDS[op]


def test_every_command_has_a_file() -> None:
    assert {path.stem for path in fragments(LUA)} == set(WORDS)


@pytest.mark.parametrize("op", sorted(set(WORDS) - INTERNAL))
def test_the_contract_names_them(op: str) -> None:
    assert words_in_the_contract()[op] == WORDS[op]


def test_every_command_of_the_contract_is_served_or_known_not_to_be() -> None:
    assert set(words_in_the_contract()) == set(WORDS) - INTERNAL | NOT_SERVED
