"""SaleService asks for the organiser's role and for sound requests before the desk hears of them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2 as pb

from services.kit.errors import Refusal
from services.kit.identity import Caller, set_caller
from services.kit.plans.compiled import Plan
from services.kit.plans.document import read_plan
from services.queue.sales.rpc import SaleServicer
from tests.plans import THEATRE

NOW_MS = 1_700_000_000_123


class MemoryDesk:
    """Answers every call with the sale it was asked for, and remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def define(self, *arguments: Any, **options: Any) -> tuple[pb.Sale, bool]:
        self.calls.append((*arguments, options))
        return pb.Sale(sale=arguments[0]), True

    async def get(self, *arguments: Any) -> tuple[pb.Sale, int]:
        self.calls.append(arguments)
        return pb.Sale(sale=arguments[0]), NOW_MS

    async def pause(self, *arguments: Any) -> pb.Sale:
        return (await self.get(*arguments))[0]

    archive = pause

    async def push_plan(self, document: bytes, *, dry_run: bool) -> tuple[Plan, bool]:
        self.calls.append((document, dry_run))
        return read_plan(document), not dry_run

    async def list(self, *arguments: Any, **options: Any) -> tuple[list[pb.Sale], str]:
        self.calls.append((*arguments, options))
        return [pb.Sale(sale="show")], "show"


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def servicer(desk: MemoryDesk) -> SaleServicer:
    return SaleServicer(desk, None)  # type: ignore[arg-type]


Call = Callable[[SaleServicer], Awaitable[Any]]

CHANGES: dict[str, Call] = {
    "Define": lambda at: at.Define(pb.DefineRequest(sale="show"), None),
    "Pause": lambda at: at.Pause(pb.PauseRequest(sale="show", paused=True), None),
    "Archive": lambda at: at.Archive(pb.ArchiveRequest(sale="show"), None),
}
READS: dict[str, Call] = {
    "GetSale": lambda at: at.GetSale(pb.GetSaleRequest(sale="show"), None),
    "ListSales": lambda at: at.ListSales(pb.ListSalesRequest(), None),
}


def become(*roles: str) -> None:
    set_caller(Caller("public", "ana", frozenset(roles), None, ()))  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["buyer", "staff", "bff", "service"])
@pytest.mark.parametrize("method", CHANGES)
async def test_only_an_organiser_changes_a_sale(
    servicer: SaleServicer, desk: MemoryDesk, method: str, role: str
) -> None:
    become(role)
    with pytest.raises(Refusal, match="ROLE_REQUIRED"):
        await CHANGES[method](servicer)
    assert desk.calls == []


@pytest.mark.parametrize("method", CHANGES)
async def test_an_organiser_changes_a_sale(servicer: SaleServicer, method: str) -> None:
    become("organiser")
    assert (await CHANGES[method](servicer)).sale.sale == "show"


@pytest.mark.parametrize("method", READS)
async def test_anyone_signed_in_reads(servicer: SaleServicer, desk: MemoryDesk, method: str) -> None:
    become("buyer")
    await READS[method](servicer)
    assert len(desk.calls) == 1


@pytest.mark.parametrize("name", ["", "A", "a.b", "*", "a b", "-a", "a" * 64])
async def test_what_cannot_be_an_id_names_no_sale(
    servicer: SaleServicer, desk: MemoryDesk, name: str
) -> None:
    become("organiser")
    for call in (
        servicer.GetSale(pb.GetSaleRequest(sale=name), None),
        servicer.Pause(pb.PauseRequest(sale=name), None),
        servicer.Archive(pb.ArchiveRequest(sale=name), None),
    ):
        with pytest.raises(Refusal, match="SALE_NOT_FOUND"):
            await call
    assert desk.calls == []


@pytest.mark.parametrize("size", [-1, 501])
async def test_pages_are_bounded(servicer: SaleServicer, size: int) -> None:
    become("buyer")
    with pytest.raises(Refusal, match="INVALID_FIELD"):
        await servicer.ListSales(pb.ListSalesRequest(page_size=size), None)


async def test_a_page_has_a_size_when_none_is_asked_for(servicer: SaleServicer, desk: MemoryDesk) -> None:
    become("buyer")
    answer = await servicer.ListSales(pb.ListSalesRequest(page_token="a", include_archived=True), None)
    assert desk.calls == [("a", 100, {"archived": True})]
    assert answer.next_page_token == "show"


async def test_a_plan_is_kept_by_an_organiser_only(servicer: SaleServicer, desk: MemoryDesk) -> None:
    request = pb.PushPlanRequest(document=THEATRE.read_bytes())
    become("buyer")
    with pytest.raises(Refusal, match="ROLE_REQUIRED"):
        await servicer.PushPlan(request, None)
    assert desk.calls == []
    become("organiser")
    answer = await servicer.PushPlan(request, None)
    assert answer.stored
    assert answer.plan.digest == read_plan(request.document).digest
    assert (answer.categories[0].name, answer.categories[0].seats) == ("Stalls", 38)


async def test_a_reader_learns_the_clock_that_the_phase_goes_by(servicer: SaleServicer) -> None:
    become("buyer")
    answer = await servicer.GetSale(pb.GetSaleRequest(sale="show"), None)
    assert answer.now.ToMilliseconds() == NOW_MS
