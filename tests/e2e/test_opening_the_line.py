"""Sales that not everybody may join: access codes as an organiser brings them, and work before joining."""

import asyncio
import json
from pathlib import Path
from typing import Any

import altcha
import pytest
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2
from redis.asyncio import Redis

from local import cli
from local.client import answered, bearer, streamed
from services.kit.errors import Refusal
from services.queue.store import KEYS, keys_of

WAITING = queue.PLACE_STATE_WAITING


async def refused(attempt: Any) -> Refusal:
    """What a call is refused with."""
    with pytest.raises(Refusal) as refusal:
        await attempt
    return refusal.value


def solved(text: str) -> str:
    """A challenge as the widget sends it back."""
    challenge = altcha.Challenge.from_dict(json.loads(text))
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    return altcha.Payload(challenge, solution).to_base64()


async def test_codes_of_a_file_open_a_presale(
    house: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = await house.sale(codes=True, opens_in_s=600, lobby_in_s=-1)

    async def catraca(*words: str) -> tuple[int, str]:
        arguments = cli.parser().parse_args(words)
        capsys.readouterr()
        code = await asyncio.to_thread(arguments.run, arguments)
        return code, capsys.readouterr().out

    _, made = await catraca("codes", "make", "3")
    file = tmp_path / "codes.txt"
    file.write_text(made + "\n")
    single = made.split()
    assert len(set(single)) == 3
    data = ("--data", house.running.data)
    assert await catraca("codes", "push", name, str(file), *data) == (
        0,
        f"3 codes: 3 new, 0 changed; {name} has 3\n",
    )
    assert (await catraca("codes", "push", name, str(file), *data))[1].startswith("3 codes: 0 new, 0 changed")
    assert (await catraca("codes", "push", "no-such-sale", str(file), *data))[0] == 1
    assert (await catraca("codes", "push", name, str(tmp_path / "none"), *data))[0] == 2

    buyer, other = house.buyer(name), house.buyer(name)
    assert (await refused(buyer.join())).word == "ACCESS_CODE_INVALID"
    assert (await refused(buyer.join(access_code="K7QX-9M2P-4TRA"))).word == "ACCESS_CODE_INVALID"
    assert (await buyer.join(access_code=single[0].lower().replace("-", " "))).state == WAITING
    assert (await buyer.join()).index == 0
    assert (await refused(other.join(access_code=single[0]))).word == "ACCESS_CODE_INVALID"

    token = house.running.minter().mint("front", roles=["bff"], namespace="shop")
    items = [
        queue.JoinItem(subject="a", access_code=single[1]),
        queue.JoinItem(subject="b", access_code=single[1]),
        queue.JoinItem(subject="c"),
        queue.JoinItem(subject="", access_code=single[2]),
        queue.JoinItem(subject="d", access_code=single[2]),
    ]
    request = iter([queue.JoinManyRequest(sale=name, items=items)])
    call = house.at.queue.JoinMany(request, metadata=bearer(token))
    (batch,) = [answer async for answer in streamed(call)]
    assert [result.refusal for result in batch.results] == [
        "",
        "ACCESS_CODE_INVALID",
        "ACCESS_CODE_INVALID",
        "INVALID_FIELD",
        "",
    ]
    body = queue.ReceiptBody.FromString(batch.receipt.body)
    assert [entry.index for entry in body.entries] == [1, 2]

    async with Redis.from_url(house.running.redis_url) as redis:
        kept = await redis.hgetall(keys_of(name)[KEYS.index("codes")])
    assert len(kept) == 3 and all(len(code) == 16 for code in kept)


async def test_who_may_bring_codes_is_an_organiser(house: Any) -> None:
    name = await house.sale(codes=True)
    for roles in (["buyer"], ["bff"], ["staff"]):
        house_call = house.at.sales.PutAccessCodes(
            _codes(name), metadata=bearer(house.running.minter().mint("x", roles=roles))
        )
        assert (await refused(answered(house_call))).word == "ROLE_REQUIRED"


def _codes(name: str) -> Any:
    return sale_pb2.PutAccessCodesRequest(sale=name, codes=["K7QX-9M2P"], uses=1)


async def test_a_join_may_want_work(house: Any) -> None:
    name = await house.sale(challenge=True, opens_in_s=600, lobby_in_s=-1)
    buyer, other = house.buyer(name), house.buyer(name)

    refusal = await refused(buyer.join())
    assert refusal.word == "CHALLENGE_REQUIRED"
    given = await other.challenge()
    mine, theirs = solved(refusal.metadata["challenge"]), solved(given.challenge)
    assert given.HasField("expires_at")
    assert (await refused(buyer.join(challenge=theirs))).word == "CHALLENGE_REQUIRED"
    assert (await refused(buyer.join(challenge=mine[:-8] + "AAAAAAA="))).word == "CHALLENGE_REQUIRED"
    assert (await buyer.join(challenge=mine)).index == 0
    assert (await buyer.join()).index == 0, "a reload is no work"
    assert (await other.join(challenge=theirs)).index == 1

    free = await house.sale(opens_in_s=600, lobby_in_s=-1)
    nothing = await house.buyer(free).challenge()
    assert not nothing.challenge and not nothing.HasField("expires_at")
    assert (await house.buyer(free).join(challenge="nonsense", access_code="nonsense")).index == 0
