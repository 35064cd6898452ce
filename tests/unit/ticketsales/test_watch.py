"""What the watches tell is put where it belongs, whatever sales are called."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from catraca_operator.fleet import Fleet
from catraca_operator.progress import Progress
from catraca_operator.watch import Watched


class Loop:
    """Stands for a keeper, and for the loops beside: it runs until it is ended."""

    wish = None
    waits_for_replicas = False

    def __init__(self, uid: str = "") -> None:
        self.uid = uid
        self.runs = 0

    async def run(self, progressed: Callable[[float], None]) -> None:
        progressed(60)
        self.runs += 1
        await asyncio.Event().wait()

    def wake(self) -> None:
        pass


def body(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-of-{name}"}}


@pytest.mark.parametrize("name", ["show", "scaler", "keda"])
async def test_a_sale_may_have_any_name(name: str) -> None:
    watched, keepers, scaler, keda = Watched(Fleet("catraca"), Progress(10)), [], Loop(), Loop()

    def make(of: dict[str, Any]) -> Any:
        keepers.append(Loop(of["metadata"]["uid"]))
        return keepers[-1]

    watched.wire(make, scaler, keda)  # type: ignore[arg-type]
    watched.list_sale(body(name))
    for _ in range(2):
        watched.begin()
        await asyncio.sleep(0)
    assert [each.runs for each in (*keepers, scaler, keda)] == [1, 1, 1]
    watched.lost_sale(body(name))
    watched.list_sale(body(name))
    watched.begin()
    await asyncio.sleep(0)
    # The sale has another keeper; the loops beside were not touched.
    assert [each.runs for each in (*keepers, scaler, keda)] == [1, 1, 1, 1]
    await watched.close()
