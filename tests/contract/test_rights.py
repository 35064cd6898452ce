"""The table of rights names what the code uses: commands of the scripts, streams, the durable consumer."""

import re
from pathlib import Path

import pytest

from services.checkout.workers import intake
from services.kit.rights import NATS, REDIS
from services.kit.streams import STREAMS
from services.queue.store import keys_of

LUA = Path("services")
CALLED = re.compile(r"(?:redis\.p?call|call_with)\(\s*['\"](\w+)['\"]")


@pytest.mark.parametrize("service", ["queue", "inventory"])
def test_a_user_may_call_what_its_script_calls_and_nothing_else(service: str) -> None:
    files = list((LUA / service / "lua").rglob("*.lua"))
    called = {name.lower() for file in files for name in CALLED.findall(file.read_text())}

    assert len(called) > 10
    assert set(REDIS[service].scripted) == called


def test_every_stream_is_one_that_is_declared() -> None:
    declared = {stream.name for stream in STREAMS}

    assert {stream for rights in NATS.values() for stream in rights.streams} <= declared


def test_only_the_queue_and_the_audit_come_to_the_seeds() -> None:
    readers = {user for user, rights in NATS.items() if any("draws" in each for each in rights.publish)}

    assert readers == {"queue", "auditor"}


def test_nobody_may_make_or_change_a_stream() -> None:
    forbidden = re.compile(r"\$JS\.API\.STREAM\.(CREATE|UPDATE|DELETE|PURGE|MSG\.DELETE|SNAPSHOT|RESTORE)")

    assert [each for rights in NATS.values() for each in rights.publish if forbidden.match(each)] == []
    assert [each for rights in NATS.values() for each in rights.publish if each in (">", "$JS.API.>")] == []


def test_the_durable_consumer_is_the_workers() -> None:
    assert dict(NATS["checkout"].works) == {intake.STREAM: intake.DURABLE}


def test_keys_begin_as_the_pattern_says() -> None:
    assert REDIS["queue"].pattern == "q:*"
    assert all(key.startswith("q:") for key in keys_of("a-sale"))
