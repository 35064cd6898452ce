"""Every Lua transition says what it uses, takes and answers, and refuses before it writes."""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from services.kit.lua import POINT_OF_NO_FAILURE
from services.kit.reasons import WORDS
from tests.contract.lua_source import Function, LuaFile, Service

SERVICES = Path(__file__).parents[2] / "services"
FOLDERS = {path.parent.parent.name: path.parent for path in sorted(SERVICES.glob("*/lua/dispatch.lua"))}
ALL = {name: Service(folder) for name, folder in FOLDERS.items()}
TRANSITIONS = [
    pytest.param(ALL[name], file, id=f"{name}/{file.path.stem}")
    for name in ALL
    for file in ALL[name].transitions
]

every_transition = pytest.mark.parametrize(("service", "file"), TRANSITIONS)


def test_both_stores_are_looked_at() -> None:
    assert set(ALL) == {"inventory", "queue"}
    assert len(TRANSITIONS) > 20


@every_transition
def test_the_header_names_the_keys_and_fields_that_are_used(service: Service, file: LuaFile) -> None:
    assert file.header is not None, "it has no header"
    assert file.header.purpose.endswith(".")
    assert set(file.header.keys) == file.uses("keys")
    assert set(file.header.args) == file.uses("cmd")


@every_transition
def test_every_key_is_one_that_the_store_names(service: Service, file: LuaFile) -> None:
    assert file.header is not None
    store = import_module(f"services.{file.path.parent.parent.name}.store")
    assert set(file.header.keys) <= set(store.KEYS)


@every_transition
def test_the_header_names_the_words_that_are_answered(service: Service, file: LuaFile) -> None:
    assert file.header is not None
    returns, reached = set(file.header.returns), service.reached(file)
    written = set().union(*(function.words for function in reached))
    assert written <= returns
    if any(function.has_computed_words for function in reached):
        # The others are kept in a table or in the store; they are written out somewhere all the same.
        assert returns <= file.capitals.union(*(helper.capitals for helper in service.library))
    else:
        assert returns == written


@every_transition
def test_what_writes_says_from_where_on_nothing_fails(service: Service, file: LuaFile) -> None:
    writing = any(service.writes(function) for function in file.functions)
    assert ("@point()" in file.code) == writing


@every_transition
def test_refusals_come_before_writes(service: Service, file: LuaFile) -> None:
    for function in file.functions:
        before, point, after = function.text.partition("@point()")
        if not point:
            continue
        assert not Function("", before).writes, f"{function.name} writes before the line"
        assert not Function("", after).words & WORDS, f"{function.name} refuses after the line"


@pytest.mark.parametrize(
    ("check", "name", "old", "new"),
    [
        (
            test_the_header_names_the_keys_and_fields_that_are_used,
            "join",
            "KEYS: members, codes",
            "KEYS: codes",
        ),
        (test_the_header_names_the_keys_and_fields_that_are_used, "join", "ARGV: buyers", "ARGV: buyers, x"),
        (test_the_header_names_the_keys_and_fields_that_are_used, "join", "keys.members", "keys.memebrs"),
        (test_every_key_is_one_that_the_store_names, "join", "KEYS: members, codes", "KEYS: members, other"),
        (
            test_the_header_names_the_words_that_are_answered,
            "leave",
            "Returns: LEFT, NO_LINE",
            "Returns: LEFT",
        ),
        (test_the_header_names_the_words_that_are_answered, "leave", "Returns: LEFT", "Returns: LEFT, GONE"),
        (test_the_header_names_the_words_that_are_answered, "leave", "word = 'NO_LINE'", "word = 'NO_LIEN'"),
        (test_what_writes_says_from_where_on_nothing_fails, "leave", POINT_OF_NO_FAILURE, "-- Now."),
        (
            test_what_writes_says_from_where_on_nothing_fails,
            "read",
            "local indexes",
            POINT_OF_NO_FAILURE + "\nlocal x",
        ),
        (test_refusals_come_before_writes, "leave", "-- After", "line.x = 1\n-- After"),
        (test_refusals_come_before_writes, "leave", "-- After", "redis.call('DEL', keys.members)\n-- After"),
        (test_refusals_come_before_writes, "leave", "word = 'LEFT'", "word = 'NO_LINE'"),
    ],
)
def test_these_checks_notice(
    check: Callable[[Service, LuaFile], None], name: str, old: str, new: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(FOLDERS["queue"], tmp_path / "queue/lua")
    path = folder / f"{name}.lua"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    service = Service(folder)
    (file,) = [each for each in service.transitions if each.path == path]
    with pytest.raises(AssertionError):
        check(service, file)
