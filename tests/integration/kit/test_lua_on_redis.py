"""Scripts on a real Redis: what goes in and comes out, and a Redis that forgot the script."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from local.servers.redis import Redis as RedisServer
from services.kit.errors import refusal_for
from services.kit.lua import NotLoaded, Script, WholeBatch, raw
from services.kit.redis import connect, require_noeviction
from services.kit.settings import SettingError

DISPATCH = """
--@include keys
--@include lib
local transitions = {}
local envelope, commands = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
--@include transitions
if envelope.epoch ~= 1 then return cmsgpack.pack({word = 'NOT_LOADED'}) end
if envelope.behind then return cmsgpack.pack({word = 'BEHIND', revision = 7}) end
local results = {}
for i, cmd in ipairs(commands) do results[i] = transitions[cmd.op](cmd) end
return cmsgpack.pack(results)
"""
ECHO = (
    "transitions.echo = function(cmd) return {word = 'ECHOED', value = cmd.value, kind = type(cmd.value)} end"
)
ADD = """transitions.add = function(cmd)
  return {word = 'ADDED', sum = redis.call('INCRBY', keys.sum, cmd.by), more = KEYS[FIXED_KEYS + 1]}
end"""
BREAK = "transitions['break'] = function(cmd) return nothing_here end"


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    for name, text in {"dispatch": DISPATCH, "echo": ECHO, "add": ADD, "break": BREAK}.items():
        (tmp_path / f"{name}.lua").write_text(text)
    return Script.load(tmp_path, ["unused", "sum"])


async def test_commands_run_in_order_with_named_and_further_keys(
    redis: Redis, script: Script, sale_id: str
) -> None:
    keys = [f"t:{{{sale_id}}}:{name}" for name in ("unused", "sum", "section")]
    results = await script.run(redis, keys, {"epoch": 1}, [{"op": "add", "by": 2}, {"op": "add", "by": 3}])
    assert results == [
        {"word": "ADDED", "sum": 2, "more": keys[2]},
        {"word": "ADDED", "sum": 5, "more": keys[2]},
    ]
    assert await redis.get(keys[1]) == b"5"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, "number"),
        (-(2**53) + 1, "number"),
        (2**53 - 1, "number"),
        (1.5, "number"),
        (True, "boolean"),
        ("São Paulo", "string"),
        ("x" * 70_000, "string"),
        ([1, [2, "three"]], "table"),
        ({"section": "pit", "units": [1, 2]}, "table"),
    ],
)
async def test_values_come_back_as_they_went(redis: Redis, script: Script, value: object, kind: str) -> None:
    (result,) = await script.run(redis, ["a", "b"], {"epoch": 1}, [{"op": "echo", "value": value}])
    assert result == {"word": "ECHOED", "value": value, "kind": kind}
    assert type(result["value"]) is type(value)


async def test_bytes_come_back_as_text_that_is_bytes_again(redis: Redis, script: Script) -> None:
    value = bytes(range(256))
    (result,) = await script.run(redis, ["a", "b"], {"epoch": 1}, [{"op": "echo", "value": value}])
    assert raw(result["value"]) == value


async def test_no_commands_have_no_results(redis: Redis, script: Script) -> None:
    assert await script.run(redis, ["a", "b"], {"epoch": 1}, []) == []


async def test_a_redis_that_forgot_the_script_learns_it_again(redis: Redis, script: Script) -> None:
    command: dict[str, Any] = {"op": "echo", "value": 1}
    await script.run(redis, ["a", "b"], {"epoch": 1}, [command])
    assert await redis.script_exists(script.sha) == [True]
    await redis.script_flush()
    assert (await script.run(redis, ["a", "b"], {"epoch": 1}, [command]))[0]["value"] == 1
    assert await redis.script_exists(script.sha) == [True]


async def test_an_answer_for_the_whole_batch_is_raised(redis: Redis, script: Script) -> None:
    with pytest.raises(NotLoaded) as not_loaded:
        await script.run(redis, ["a", "b"], {"epoch": 2}, [{"op": "add", "by": 1}])
    assert not_loaded.value.word == "SALE_NOT_LOADED"
    with pytest.raises(WholeBatch) as behind:
        await script.run(redis, ["a", "b"], {"epoch": 1, "behind": True}, [])
    assert behind.value.answer == {"word": "BEHIND", "revision": 7}


async def test_a_script_that_breaks_is_a_defect(redis: Redis, script: Script) -> None:
    with pytest.raises(ResponseError) as caught:
        await script.run(redis, ["a", "b"], {"epoch": 1}, [{"op": "break"}])
    assert refusal_for(caught.value) is None


async def test_a_redis_that_drops_keys_is_refused(redis: Redis) -> None:
    await require_noeviction(redis)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(
            SettingError, match=r"CATRACA_REDIS_URL is a Redis whose .* is allkeys-lru; expected"
        ):
            await require_noeviction(redis)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_redis_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    client = connect(f"redis://127.0.0.1:{unused_tcp_port}")
    try:
        await client.get("x")
    except Exception as error:
        refusal = refusal_for(error)
        assert refusal is not None
        assert refusal.word == "UNAVAILABLE"
    else:
        pytest.fail("nobody should have answered")
    finally:
        await client.aclose()
