"""A browser's side of the edge: Node buys, is refused, loses its connection, and is told, over gRPC-web."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout

from local.issuer.tokens import AUDIENCE, Minter
from local.parts import SERVICES
from local.servers import ports
from local.servers.envoy import Envoy, Upstreams
from local.stack import Stack

WEB = Path(__file__).parents[2] / "web"
PATIENCE_S = 60.0


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with web's packages installed and its client generated."""
    made = subprocess.run([sys.executable, WEB / "build.py"], stdout=subprocess.PIPE, check=True, text=True)
    return made.stdout.strip()


@pytest.fixture
def variables(house: Any) -> dict[str, str]:
    """What every scenario is told."""
    return {"EDGE": house.running.edge_url, "TOKEN": house.minter.mint("someone-at-a-browser")}


async def play(
    node: str, scenario: str, variables: dict[str, str], answer: Callable[[str], Any] | None = None
) -> str:
    """Run one file of tests and do what it asks for on lines that begin with @. Answers what it said."""
    process = await asyncio.create_subprocess_exec(
        *(node, "--no-warnings", "--test", "--test-isolation=none", f"test/{scenario}.test.ts"),
        cwd=WEB,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin and process.stdout
    said: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stdout:
                said.append(line.decode())
                if answer is not None and said[-1].startswith("@"):
                    await answer(said[-1][1:].strip())
                    process.stdin.write(b"\n")
            status = await process.wait()
    except TimeoutError:
        pytest.fail(f"{scenario} did not end:\n{''.join(said)}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    output = "".join(said)
    assert status == 0, output
    return output


def test_the_client_is_typed_as_the_contract_says(node: str) -> None:
    checked = subprocess.run(
        [node, "node_modules/typescript/bin/tsc", "--noEmit"],
        cwd=WEB,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


async def test_a_sale_is_bought_through_the_edge(house: Any, node: str, variables: dict[str, str]) -> None:
    name = await house.sale()

    said = await play(node, "buy", variables | {"SALE": name})

    order_id = said.split("@bought ")[1].split()[0]
    order = await house.buyer(name, "someone-at-a-browser").get_order(order_id)
    assert order.state == checkout.ORDER_STATE_CONFIRMED
    assert (await house.ledger(name)).counts.sold == 2


async def test_how_calls_end_at_the_edge(
    house: Any, node: str, variables: dict[str, str], tmp_path: Path
) -> None:
    minter = house.minter
    another = Minter(tmp_path / "another.pem", house.running.issuer)
    tokens = {
        "FOREIGN_TOKEN": another.mint("someone"),
        "EXPIRED_TOKEN": minter.mint("someone", ttl_s=-5),
        "LONG_EXPIRED_TOKEN": minter.mint("someone", ttl_s=-600),
    }
    sales = {"SALE": await house.sale(), "LOBBY": await house.sale(opens_in_s=600)}

    await play(node, "calls", variables | tokens | sales)


@pytest.fixture
async def narrow_edge(stack: Stack, tmp_path: Path) -> AsyncIterator[Envoy]:
    """A second edge that lets few calls through, and behind which nobody keeps the inventory."""
    running = stack.running
    nobody = [f"{ports.HOST}:{ports.reserve()}"]
    addresses = {name: part.addresses for name, part in stack.parts.items() if name in SERVICES}
    edge = Envoy(tmp_path, "narrow", client_requests_per_s=10)
    edge.upstreams = Upstreams(
        running.issuer, running.jwks_url, AUDIENCE, addresses | {"inventory": nobody, "standing": nobody}
    )
    await edge.up()
    yield edge
    await asyncio.to_thread(edge.stop)


async def test_too_many_calls_are_told_apart_from_an_outage(
    house: Any, narrow_edge: Envoy, node: str, variables: dict[str, str]
) -> None:
    told = {"NARROW_EDGE": narrow_edge.url, "SALE": await house.sale()}

    await play(node, "limits", variables | told)


async def test_streams_are_opened_again_and_miss_nothing(
    house: Any, stack: Stack, node: str, variables: dict[str, str]
) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name, "someone-at-a-browser")

    async def answer(asked: str) -> None:
        what, which = asked.split()
        if what == "cancel":
            stack.kill9("edge")
            await buyer.cancel(which)
            await house.told(buyer, which, checkout.ORDER_STATE_CANCELLED)
            await stack.restart("edge")
        else:
            await stack.restart(which)

    await play(node, "resume", variables | {"SALE": name, "LOBBY": await house.sale(opens_in_s=600)}, answer)
    await house.found_again()
