"""One sale's loop against a cluster and services that only remember: what is written and told."""

import asyncio
from typing import Any

from catraca.sale.v1 import sale_pb2 as pb
from catraca_operator.forecast import PerReplica
from catraca_operator.keeper import Keeper
from catraca_operator.sales import Seen
from catraca_operator.status import News

from services.kit.errors import Refusal
from services.queue.sales.rules import complete
from tests.unit.ticketsales.conftest import LIMITS, OPENS, definition, sale
from tests.unit.ticketsales.test_spec import example


class Cluster:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def write_finalizer(self, body: dict[str, Any], *, kept: bool) -> dict[str, Any]:
        made = ["catraca.dev/drain"] if kept else []
        return {**body, "metadata": {**body["metadata"], "finalizers": made}}

    async def write_status(self, body: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        return {**body, "status": status}

    async def post(self, body: dict[str, Any], news: News, now_ms: int) -> None:
        self.told.append(news.reason)


class Services:
    """Hold one sale; silent while `answers` is false."""

    def __init__(self, seen: pb.Sale) -> None:
        self.seen = seen
        self.answers = True

    async def look(self, name: str) -> Seen:
        if not self.answers:
            raise Refusal("UNAVAILABLE")
        return Seen(self.seen, None, None)

    async def define(self, name: str, spec: pb.SaleSpec) -> None:
        self.seen.spec.CopyFrom(complete(spec, OPENS))

    async def archive(self, name: str) -> None:
        self.seen.phase = pb.SALE_PHASE_ARCHIVED


class Scaling:
    """Scales nothing."""

    def wake(self) -> None: ...

    def targets(self) -> dict[str, Any]:
        return {}

    def crowds(self, sale: str) -> dict[str, Any]:
        return {}


class Clock:
    """Stands still."""

    def now_ms(self) -> int:
        return OPENS + 1000


def keeper(body: dict[str, Any], cluster: Cluster, services: Services) -> Keeper:
    made: Any = Keeper
    return made(
        body,
        cluster=cluster,
        sales=services,
        scaling=Scaling(),
        clock=Clock(),
        limits=LIMITS,
        per_replica=PerReplica(1, 1.0, 1.0, 1),
        turns=asyncio.Semaphore(1),
    )


def said(of: Keeper) -> dict[str, tuple[str, str]]:
    conditions = of._body["status"]["conditions"]
    return {each["type"]: (each["status"], each["reason"]) for each in conditions}


async def test_services_that_were_silent_for_a_while_make_no_old_news_new() -> None:
    cluster, services = Cluster(), Services(sale("OPEN", definition()))
    of = keeper(example("cinema"), cluster, services)
    await of._reconcile()
    assert cluster.told == ["Defined", "Open"]
    services.answers = False
    await of._reconcile()
    # Nobody knows whether it is open: that is not the same as that there is no such sale.
    for kind in ("Ready", "SpecValid", "WindowOpen", "Paused"):
        assert said(of)[kind] == ("Unknown", "ServicesSilent")
    services.answers = True
    await of._reconcile()
    assert said(of)["WindowOpen"] == ("True", "Open")
    assert cluster.told == ["Defined", "Open"]
    services.answers = False
    await of._reconcile()
    services.answers, services.seen = True, sale("CLOSED", services.seen.spec)
    await of._reconcile()
    assert cluster.told == ["Defined", "Open", "Closed"]
