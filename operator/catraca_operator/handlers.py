"""kopf's part: it watches, and hands on what it saw. What to do is decided and done elsewhere.

Index functions are called for everything that is listed before any handler runs, so when the first handler
runs every sale, HPA and Deployment is known. kopf itself writes nothing: it has no handler that would keep
progress in the resource, and the finalizer is ours. The functions are coroutines: others run in threads.
"""

from typing import Any

import kopf

from catraca_operator.fleet import HPA, Body
from catraca_operator.resources import GROUP, PLURAL, VERSION
from catraca_operator.watch import Watched

SALES = (GROUP, VERSION, PLURAL)
SCALERS = (HPA.group, HPA.version, HPA.plural)
DEPLOYMENTS = ("apps", "v1", "deployments")
DELETED = "DELETED"


def settings() -> kopf.OperatorSettings:
    """How kopf watches."""
    made = kopf.OperatorSettings()
    # The resources are named here: there is nothing to discover, and no right to list definitions is needed.
    made.scanning.disabled = True
    made.posting.enabled = False
    made.networking.request_timeout = 30
    made.watching.server_timeout = 600
    made.watching.reconnect_backoff = 0.5
    return made


def registry(watched: Watched) -> kopf.OperatorRegistry:
    """What kopf calls."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    async def login(**of: Any) -> Any:
        return kopf.login_via_client(**of)

    @kopf.on.startup(registry=made)
    async def began(**_: Any) -> None:
        await watched.list_scaled_objects()

    @kopf.on.cleanup(registry=made)
    async def ended(**_: Any) -> None:
        # kopf waits for every task that began while it ran; these would never end by themselves.
        await watched.close()

    _sales(made, watched)
    _fleet(made, watched)
    return made


def _sales(made: kopf.OperatorRegistry, watched: Watched) -> None:
    @kopf.index(*SALES, registry=made, id="ticketsales")
    async def listed(body: Any, **_: Any) -> None:
        watched.list_sale(_plain(body))

    @kopf.on.event(*SALES, registry=made, id="ticketsale")
    async def handled(body: Any, type: str | None, **_: Any) -> None:
        if type == DELETED:
            watched.lost_sale(_plain(body))
        watched.begin()


def _fleet(made: kopf.OperatorRegistry, watched: Watched) -> None:
    fleet = watched.fleet

    @kopf.index(*SCALERS, registry=made, id="scalers", labels=fleet.labels)
    async def listed_scaler(body: Any, **_: Any) -> None:
        fleet.saw_scaler(HPA, _plain(body))

    @kopf.index(*DEPLOYMENTS, registry=made, id="deployments", labels=fleet.labels)
    async def listed_deployment(body: Any, **_: Any) -> None:
        fleet.saw_deployment(_plain(body))

    @kopf.on.event(*SCALERS, registry=made, id="scaler", labels=fleet.labels)
    async def handled_scaler(body: Any, type: str | None, **_: Any) -> None:
        if type == DELETED:
            fleet.lost_scaler(HPA, _plain(body))
        watched.begin()
        watched.fleet_changed()

    @kopf.on.event(*DEPLOYMENTS, registry=made, id="deployment", labels=fleet.labels)
    async def handled_deployment(body: Any, type: str | None, **_: Any) -> None:
        if type == DELETED:
            fleet.lost_deployment(_plain(body))
        watched.begin()
        watched.fleet_changed()


def _plain(body: Any) -> Body:
    """kopf's view of a resource as plain values."""
    return dict(body)
