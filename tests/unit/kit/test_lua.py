"""Scripts: headers read, fragments put together."""

from pathlib import Path

import pytest

from services.kit.lua import Header, assemble, parse_header

FRAGMENT = """-- Purpose: FREE → HELD, all or
--   nothing.
-- KEYS: meta, holds
-- ARGV: none
-- Returns: HELD, SOLD_OUT,
--   LIMIT_REACHED
-- A remark that belongs to none of them.
local x = 1
-- KEYS: not any more
"""


def test_a_header_is_read_over_its_lines() -> None:
    assert parse_header(FRAGMENT) == Header(
        "FREE → HELD, all or nothing.", ("meta", "holds"), (), ("HELD", "SOLD_OUT", "LIMIT_REACHED")
    )


@pytest.mark.parametrize("missing", ["Purpose", "KEYS", "ARGV", "Returns"])
def test_a_field_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        parse_header(FRAGMENT.replace(f"-- {missing}:", f"-- Not {missing}:"))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".lua")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_a_dispatcher_gets_keys_helpers_and_transitions(tmp_path: Path) -> None:
    write(
        tmp_path,
        dispatch="--@include keys\n--@include lib\nlocal transitions = {}\n--@include transitions\nreturn 1",
        lib="local A = 1",
        lib__more="more.b = 2",
        leave="transitions.leave = 2",
        join="transitions.join = 1",
    )
    assert assemble(tmp_path, ["meta", "out"]).split("\n") == [
        "local keys = { meta = KEYS[1], out = KEYS[2] }",
        "local FIXED_KEYS = 2",
        "local A = 1",
        "do -- more.lua",
        "more.b = 2",
        "end",
        "local transitions = {}",
        "do -- join.lua",
        "transitions.join = 1",
        "end",
        "do -- leave.lua",
        "transitions.leave = 2",
        "end",
        "return 1",
    ]


def test_fragments_may_be_bodies_of_functions(tmp_path: Path) -> None:
    write(tmp_path, dispatch="--@include transitions(cmd, line)", **{"return": "return cmd"})
    assert (
        assemble(tmp_path, []) == 'transitions["return"] = function(cmd, line) -- return.lua\nreturn cmd\nend'
    )


@pytest.mark.parametrize("line", ["--@include libs", "--@include keys(a)", "--@include lib(a)"])
def test_an_unknown_include_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, dispatch=line)
    with pytest.raises(ValueError, match="includes none of"):
        assemble(tmp_path, [])
