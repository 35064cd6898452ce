"""Where payment providers call: answers 2xx only when what the call says is durable."""

import json
import time
from collections.abc import Mapping

import grpc
from aiohttp import web

from services.checkout import metrics
from services.checkout.providers.protocol import Event, EventType, Provider
from services.checkout.records import Change, Order
from services.checkout.saga import Saga, now_ms
from services.checkout.settling import after_event, check_binding
from services.checkout.states import OrderState
from services.checkout.store import Collision, Stale, Store
from services.checkout.transitions import Steps
from services.kit import tracing
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger

log = get_logger(__name__)

PATH = "/webhooks/{provider}"
MAX_BODY_BYTES = 64 * 1024
STATUSES = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.UNAVAILABLE: 503}
STATUSES |= {grpc.StatusCode.RESOURCE_EXHAUSTED: 503, grpc.StatusCode.DEADLINE_EXCEEDED: 503}
# Providers send again what a server failed at, and give up what was wrong with their call.
STATUSES |= {grpc.StatusCode.INTERNAL: 500}


class Webhooks:
    """Takes providers' events: each once, and only for the payment it names."""

    def __init__(self, store: Store, saga: Saga, providers: Mapping[str, Provider], steps: Steps) -> None:
        self._store = store
        self._saga = saga
        self._providers = providers
        self._steps = steps

    def application(self) -> web.Application:
        """The application with its routes."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/healthz", _healthz)
        app.router.add_post(PATH, self._receive)
        return app

    async def take(self, provider: str, event: Event) -> None:
        """Let the event have its effect, if it has any and had not before. Raises Refusal WEBHOOK_FOREIGN."""
        while True:
            order = await self._store.load_one(event.order_id)
            if order is not None and order.payment is None and order.state is OrderState.HELD:
                # The session was opened this moment and is not written down yet.
                raise Refusal("UNAVAILABLE")
            check_binding(order, provider, event)
            if order is None:
                return
            name = f"webhook {provider} {event.type.lower()}"
            with tracing.continued(name, order.traceparent, tracing.SpanKind.SERVER):
                if await self._settled(order, provider, event):
                    return

    async def _settled(self, order: Order, provider: str, event: Event) -> bool:
        """Whether the event needs no further look at the order."""
        after = after_event(order, event.type, self._steps, now_ms())
        if after is None:
            if event.type is EventType.CAPTURED and order.state is OrderState.CAPTURING:
                # The answer to the capture was lost: asking again brings it.
                self._saga.nudge(order)
            return True
        try:
            self._saga.start(await self._store.advance(Change(order, after, event.event_id)))
        except Stale:
            return False
        except Collision:
            if not await self._store.webhook_seen(provider, event.event_id):
                raise Refusal("WEBHOOK_FOREIGN") from None
        return True

    async def _receive(self, request: web.Request) -> web.Response:
        name = request.match_info["provider"]
        provider = self._providers.get(name)
        if provider is None:
            # Not by the name that was called: callers may think of as many as they like.
            metrics.WEBHOOKS.labels("unknown", "INVALID_FIELD").inc()
            return _answer(404, "INVALID_FIELD", "There is no such provider.")
        try:
            event = provider.parse_webhook(request.headers, await request.read(), time.time())
            await self.take(name, event)
        except Exception as error:
            refusal = refusal_for(error)
            if refusal is None:
                if isinstance(error, web.HTTPRequestEntityTooLarge):
                    metrics.WEBHOOKS.labels(name, "MESSAGE_TOO_LARGE").inc()
                    return _answer(413, "MESSAGE_TOO_LARGE", f"A webhook has at most {MAX_BODY_BYTES} bytes.")
                metrics.WEBHOOKS.labels(name, "INTERNAL").inc()
                log.exception("webhook_failed", provider=name)
                return _answer(500, "INTERNAL", "A defect of ours; send it again.")
            metrics.WEBHOOKS.labels(name, refusal.word).inc()
            log.info("webhook_refused", provider=name, word=refusal.word, problem=refusal.message)
            return _answer(STATUSES.get(refusal.code, 400), refusal.word, refusal.message)
        metrics.WEBHOOKS.labels(name, "taken").inc()
        return _answer(200, "", "")


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _answer(status: int, reason: str, message: str) -> web.Response:
    body = {"reason": reason, "message": message} if reason else {}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
