"""New signing keys during a sale: nothing restarts, good tokens stay good, withdrawn ones end in time."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout

from local.client import Buyer, Connection, Targets, item
from local.stack import Stack
from services.kit.errors import Refusal
from tests.e2e.conftest import House

FRESH_S, REMEMBERED_S = 2.0, 2.0
COOL_DOWN_S = 5.0
"""The kit asks the issuer again no sooner than this."""
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A stack of its own: withdrawing keys ends every token there is, and the bounds are short here."""
    settings = {"CATRACA_JWKS_FRESH_S": str(FRESH_S), "CATRACA_TOKEN_REMEMBERED_S": str(REMEMBERED_S)}
    async with (
        Stack(tmp_path_factory.mktemp("rotation"), settings=settings) as stack,
        Connection(Targets(**stack.running.targets)) as connection,
    ):
        yield House(stack, connection)


async def rotate(house: House, *options: str) -> None:
    """As an operator does it."""
    arguments = ["keys", "rotate", "issuer", "--data", str(house.stack.data), *options]
    command = [sys.executable, "-m", "local.cli", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    assert house.minter.key_id in said.decode()


def signer(buyer: Buyer) -> str:
    token = dict(buyer.metadata)["authorization"].removeprefix("Bearer ")
    return str(jwt.get_unverified_header(token)["kid"])


async def bought(house: House, buyer: Buyer, key: str) -> None:
    """The whole way through every service, and the services' calls to each other."""
    order = await buyer.order(key, [item("floor", 1)])
    asked = await house.told(buyer, order.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    await house.pay(asked)
    await house.told(buyer, order.order_id, checkout.ORDER_STATE_CONFIRMED)


async def soon(attempt: Any) -> float:
    """Try until it is not refused; answers after how many seconds."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await attempt()
            except Refusal as refusal:
                assert refusal.word in ("TOKEN_INVALID", "UNAVAILABLE"), refusal
                await asyncio.sleep(0.1)
            else:
                return time.monotonic() - began


async def test_rotated_keys_are_taken_at_once_and_old_tokens_stay_good(house: House) -> None:
    name = await house.sale(line=False)
    old = house.buyer(name)
    await bought(house, old, "click-one")

    await rotate(house)

    new = house.buyer(name)
    assert signer(new) != signer(old)
    await bought(house, new, "click-one")
    await bought(house, old, "click-two")
    # Also once nothing is remembered any more.
    await asyncio.sleep(max(FRESH_S, COOL_DOWN_S) + REMEMBERED_S)
    await bought(house, old, "click-three")


async def test_withdrawn_keys_are_refused_within_the_bound(house: House) -> None:
    name = await house.sale(line=False)
    old = house.buyer(name)
    await old.availability()

    await rotate(house, "--withdraw")

    withdrawn = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Refusal, match="TOKEN_INVALID"):
            while True:
                await old.availability()
                await asyncio.sleep(0.1)
    assert time.monotonic() - withdrawn < 2 * (max(FRESH_S, COOL_DOWN_S) + REMEMBERED_S)
    new = house.buyer(name)
    assert await soon(new.availability) < 2 * COOL_DOWN_S
    # The services' own token was withdrawn too; they read the new one from its file.
    await soon(lambda: new.order("click-one", [item("floor", 1)]))
    await bought(house, new, "click-two")
    with pytest.raises(Refusal, match="TOKEN_INVALID"):
        await old.order("click-late", [item("floor", 1)])
