"""Sends webhooks until they arrive: signed, with backoff, and now and then twice."""

import asyncio
import contextlib
import random
import ssl
import time

import aiohttp

from local.sandbox import sessions
from local.sandbox.config import SandboxSettings
from local.sandbox.ledger import Ledger
from local.sandbox.sessions import Event
from services.checkout.providers.sandbox import SIGNATURE_HEADER, Secrets, signature
from services.kit.logs import get_logger

log = get_logger(__name__)

AT_ONCE = 64
SCAN = 200
SCAN_S = 0.25
ANSWER_TIMEOUT_S = 10.0
FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 30.0


class Sender:
    """Sends what the ledger has to tell: what was just written at once, what did not arrive again later."""

    def __init__(self, ledger: Ledger, settings: SandboxSettings, secrets: Secrets) -> None:
        self._ledger = ledger
        self._duplicate_rate = settings.sandbox_duplicate_rate
        self._secret = secrets.webhook_secret
        self._context = ssl.create_default_context(cafile=settings.tls_ca_file)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Decide delayed payments and send due webhooks, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=AT_ONCE, ssl=self._context)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as self._session:
            while True:
                # What ends while the ledger is read was read as due and is not.
                before = set(self._under_way)
                now_ms = int(time.time() * 1000)
                decided = await self._ledger.do(lambda db: sessions.decide_due(db, now_ms, SCAN))  # noqa: B023
                due = await self._ledger.do(lambda db: sessions.events_due(db, now_ms, SCAN))  # noqa: B023
                for event in [*decided, *(each for each in due if each.event_id not in before)]:
                    self.send(event)
                await asyncio.sleep(SCAN_S)

    def send(self, event: Event) -> None:
        """Send one event soon, unless that is under way already."""
        if self._session is None or event.event_id in self._under_way:
            return
        task = asyncio.create_task(self._deliver(event))
        self._under_way[event.event_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(event.event_id, None))

    async def _deliver(self, event: Event) -> None:
        async with self._slots:
            arrived = await self._post(event)
            if arrived and random.random() < self._duplicate_rate:
                await self._post(event)
        if arrived:
            await self._ledger.do(lambda db: sessions.event_arrived(db, event.event_id))
            return
        pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(event.tries, 16))
        next_at_ms = int((time.time() + random.uniform(pause_s / 2, pause_s)) * 1000)
        await self._ledger.do(lambda db: sessions.event_failed(db, event.event_id, next_at_ms))

    async def _post(self, event: Event) -> bool:
        if self._session is None:
            return False
        body = event.body.encode()
        headers = {SIGNATURE_HEADER: signature(self._secret, int(time.time()), body)}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post(
                event.webhook_url, data=body, headers={**headers, "Content-Type": "application/json"}
            ) as answer:
                if answer.status < 300:
                    return True
                problem = (await answer.text())[:200]
                log.info("webhook_refused", event_id=event.event_id, status=answer.status, problem=problem)
        return False
