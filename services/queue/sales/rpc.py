"""SaleService over gRPC: requests in, the desk's answers out; translation only."""

import re
from typing import Any

from catraca.sale.v1 import sale_pb2 as pb
from catraca.sale.v1.sale_pb2_grpc import SaleServiceServicer

from services.kit.errors import Refusal
from services.kit.identity import caller
from services.queue.sales.codes import Codes
from services.queue.sales.desk import Desk

ORGANISER = "organiser"
PAGE_SIZE = 100
LARGEST_PAGE = 500

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class SaleServicer(SaleServiceServicer):
    """catraca.sale.v1.SaleService."""

    def __init__(self, desk: Desk, codes: Codes) -> None:
        self._desk = desk
        self._codes = codes

    async def Define(self, request: pb.DefineRequest, context: Any) -> pb.DefineResponse:
        """– → SCHEDULED, or the same phase under a new revision."""
        caller(context).need(ORGANISER)
        sale, changed = await self._desk.define(
            request.sale, request.spec, request.revision, dry_run=request.dry_run
        )
        return pb.DefineResponse(sale=sale, changed=changed)

    async def GetSale(self, request: pb.GetSaleRequest, context: Any) -> pb.GetSaleResponse:
        """One sale as it stands."""
        sale, now_ms = await self._desk.get(_label(request.sale))
        answer = pb.GetSaleResponse(sale=sale)
        answer.now.FromMilliseconds(now_ms)
        return answer

    async def ListSales(self, request: pb.ListSalesRequest, context: Any) -> pb.ListSalesResponse:
        """Sales by id."""
        if not 0 <= request.page_size <= LARGEST_PAGE:
            raise Refusal("INVALID_FIELD", field="page_size", expected=f"0 to {LARGEST_PAGE}")
        if request.page_token and _LABEL.fullmatch(request.page_token) is None:
            raise Refusal("INVALID_FIELD", field="page_token", expected="the next_page_token of an answer")
        page, token = await self._desk.list(
            request.page_token, request.page_size or PAGE_SIZE, archived=request.include_archived
        )
        return pb.ListSalesResponse(sales=page, next_page_token=token)

    async def Pause(self, request: pb.PauseRequest, context: Any) -> pb.PauseResponse:
        """OPEN ↔ PAUSED."""
        caller(context).need(ORGANISER)
        return pb.PauseResponse(sale=await self._desk.pause(_label(request.sale), request.paused))

    async def PushPlan(self, request: pb.PushPlanRequest, context: Any) -> pb.PushPlanResponse:
        """Keeps a seating plan under its digest."""
        caller(context).need(ORGANISER)
        plan, stored = await self._desk.push_plan(request.document, dry_run=request.dry_run)
        categories = [pb.PlanCategory(name=name, seats=seats) for name, seats in plan.counts().items()]
        return pb.PushPlanResponse(
            plan=pb.SeatingPlan(digest=plan.digest), name=plan.name, categories=categories, stored=stored
        )

    async def PutAccessCodes(
        self, request: pb.PutAccessCodesRequest, context: Any
    ) -> pb.PutAccessCodesResponse:
        """Access codes, and how often each may be used."""
        caller(context).need(ORGANISER)
        sale = _label(request.sale)
        added, changed, known = await self._codes.put(sale, request.codes, request.uses)
        return pb.PutAccessCodesResponse(added=added, changed=changed, known=known)

    async def Archive(self, request: pb.ArchiveRequest, context: Any) -> pb.ArchiveResponse:
        """CLOSED → ARCHIVED."""
        caller(context).need(ORGANISER)
        return pb.ArchiveResponse(sale=await self._desk.archive(_label(request.sale)))


def _label(sale: str) -> str:
    """A sale's id; what cannot be one names no sale."""
    if _LABEL.fullmatch(sale) is None:
        raise Refusal("SALE_NOT_FOUND", sale=sale[:63])
    return sale
