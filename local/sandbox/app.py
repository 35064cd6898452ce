"""The sandbox's HTTP: the API that checkout calls, and the page where a buyer pays."""

import hmac
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from local.sandbox import page, sessions
from local.sandbox.config import SandboxSettings
from local.sandbox.ledger import Ledger
from local.sandbox.sender import Sender
from local.sandbox.sessions import Body, Done, Refused
from services.checkout.providers.sandbox import Secrets

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_FIELDS = {
    "order_id": str,
    "sale": str,
    "amount": int,
    "currency": str,
    "webhook_url": str,
    "expires_at_ms": int,
}
SHOWN = (
    "session_id",
    "order_id",
    "sale",
    "amount",
    "currency",
    "expires_at_ms",
    "declines",
    "captured",
    "refunded",
)


class Sandbox:
    """The handlers. Whatever they answer is on disk."""

    def __init__(self, settings: SandboxSettings, secrets: Secrets, ledger: Ledger, sender: Sender) -> None:
        self._settings = settings
        self._secrets = secrets
        self._ledger = ledger
        self._sender = sender

    def application(self) -> web.Application:
        """The application with its routes."""
        app = web.Application(middlewares=[_errors_as_json])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_post("/v1/sessions", self._create)
        app.router.add_get("/v1/sessions/{session_id}", self._find)
        app.router.add_post("/v1/sessions/{session_id}/{verb:capture|void|refund}", self._change)
        app.router.add_get("/v1/ledger", self._ledger_of_sale)
        app.router.add_get("/pay/{session_id}", self._show)
        app.router.add_post("/pay/{session_id}", self._pay)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self._authenticate(request)
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            raise Refused(400, "idempotency_key_missing")
        asked = _checked(await _json(request))
        done = await self._ledger.do(lambda db: sessions.create(db, key, asked))
        session_id = done.session["session_id"]
        url = f"{self._settings.sandbox_url}/pay/{session_id}"
        return self._answer(request, {"session_id": session_id, "url": url}, status=201)

    async def _find(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        session = await self._ledger.do(lambda db: sessions.find(db, request.match_info["session_id"]))
        return web.json_response(_shown(session))

    async def _change(self, request: web.Request) -> web.StreamResponse:
        self._authenticate(request)
        session_id, verb = request.match_info["session_id"], request.match_info["verb"]
        amount = (await _json(request)).get("amount", 0) if request.can_read_body else 0

        def change(db: Any) -> Done:
            if verb == "void":
                return sessions.void(db, session_id, _now_ms())
            act = sessions.capture if verb == "capture" else sessions.refund
            return act(db, session_id, amount, _now_ms())

        done = await self._ledger.do(change)
        self._tell(done)
        return self._answer(request, _shown(done.session))

    async def _ledger_of_sale(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        sale = request.query.get("sale", "")
        found = await self._ledger.do(lambda db: sessions.of_sale(db, sale))
        return web.json_response({"sessions": [_shown(session) for session in found]})

    async def _show(self, request: web.Request) -> web.Response:
        session = await self._ledger.do(lambda db: sessions.find(db, request.match_info["session_id"]))
        return page.response(session, sessions.state_at(session, _now_ms()))

    async def _pay(self, request: web.Request) -> web.Response:
        by_hand = request.content_type == "application/x-www-form-urlencoded"
        card = str((await request.post() if by_hand else await _json(request)).get("card", ""))
        if card not in sessions.CARDS:
            raise Refused(400, f"card_must_be_one_of: {', '.join(sessions.CARDS)}")
        if card in sessions.GOOD_CARDS and random.random() < self._settings.sandbox_decline_rate:
            card = "decline"
        delay_ms = round(self._settings.sandbox_delay_s * 1000)
        session_id = request.match_info["session_id"]
        done = await self._ledger.do(lambda db: sessions.pay(db, session_id, card, delay_ms, _now_ms()))
        self._tell(done)
        state = sessions.state_at(done.session, _now_ms())
        if by_hand:
            return page.response(done.session, state)
        declined = done.event is not None and state == "open"
        return web.json_response({"result": "declined" if declined else state})

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._secrets.api_key.encode()):
            raise Refused(401, "api_key_wrong")

    def _tell(self, done: Done) -> None:
        if done.event is not None:
            self._sender.send(done.event)

    def _answer(self, request: web.Request, body: Body, status: int = 200) -> web.StreamResponse:
        """The answer, or nothing at all: the caller cannot know that everything was done."""
        if random.random() < self._settings.sandbox_lost_answer_rate and request.transport is not None:
            request.transport.abort()
        return web.json_response(body, status=status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return web.json_response({"error": refused.error}, status=refused.status)


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "body_must_be_a_json_object")
    return body


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    for name, kind in REQUEST_FIELDS.items():
        if type(body.get(name)) is not kind or not body[name]:
            raise Refused(400, f"{name}_missing_or_malformed")
    if body["amount"] < 1:
        raise Refused(400, "amount_must_be_positive")
    return {name: body[name] for name in REQUEST_FIELDS}


def _shown(session: Body) -> dict[str, Any]:
    return {**{name: session[name] for name in SHOWN}, "state": sessions.state_at(session, _now_ms())}


def _now_ms() -> int:
    return int(time.time() * 1000)
