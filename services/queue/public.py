"""The public standing of a sale: a tiny HTTP document of what all who wait may know, for caches to carry.

It names nobody. Its ETag is strong: the same content has the same bytes on every replica. That is why the
sale's time is not in the body but in the `Date` header, which a cache keeps current when it asks anew.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from aiohttp import ETag, web

from services.kit.definitions import Definition
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.queue import rules
from services.queue.states import Standing
from services.queue.workers.standing import Hubs

PATH = "/standing/{sale}"
MAX_AGE_S = 1
# Any page may read it: there is nothing in it that is not for everyone.
OPEN_TO_ALL = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Date, Age",
}
LASTING = {"SALE_NOT_FOUND": 404, "NO_LINE": 404, "SALE_ARCHIVED": 410}
_ETAG_BYTES = 16

log = get_logger("public")


@dataclass(frozen=True)
class Document:
    """A standing as it is sent."""

    body: bytes
    etag: str
    now_ms: int


def document(sale: str, standing: Standing) -> Document:
    """The standing in JSON, the same bytes for the same content."""
    content: dict[str, Any] = {
        "sale": sale,
        "phase": standing.phase,
        "serving": standing.serving,
        "joined": standing.joined,
        "cohort": standing.cohort or 0,
        "drawn": standing.drawn,
        "availability": standing.availability,
        # Two digits: a rate is an estimate, and a new digit would be a new document.
        "calling_rate": float(f"{rules.calling_rate(standing):.2g}"),
        "pace": _pace(standing),
        "opens_at": _written(standing.opens_ms),
        "closes_at": _written(standing.closes_ms),
    }
    body = json.dumps(content, separators=(",", ":")).encode()
    return Document(body, hashlib.blake2b(body, digest_size=_ETAG_BYTES).hexdigest(), standing.now_ms)


class PublicStanding:
    """Answers from the poller that feeds the watchers: another reader costs the store nothing."""

    def __init__(self, hubs: Hubs, active: Callable[[str], Definition]) -> None:
        """`active` answers a known sale's definition; it raises Refusal where there is none, or no more."""
        self._hubs = hubs
        self._active = active
        self._leaving = False

    def leave(self) -> None:
        """This process was told to stop: who balances over replicas is to read from another one."""
        self._leaving = True

    def application(self) -> web.Application:
        """The application with its routes."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get(PATH, self._answer)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        if self._leaving:
            return web.json_response({"status": "draining"}, status=503)
        return web.json_response({"status": "ok"})

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            found = await self._document(request.match_info["sale"])
        except Exception as error:
            refusal = refusal_for(error)
            if refusal is None:
                log.exception("standing_failed")
                refusal = Refusal("INTERNAL")
            return _refused(refusal)
        headers = {
            **OPEN_TO_ALL,
            "Cache-Control": f"public, max-age={MAX_AGE_S}",
            "ETag": f'"{found.etag}"',
            "Date": formatdate(found.now_ms / 1000, usegmt=True),
        }
        if _is_known(request.if_none_match, found.etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, content_type="application/json", headers=headers)

    async def _document(self, sale: str) -> Document:
        """The latest document. Raises Refusal SALE_NOT_FOUND, SALE_ARCHIVED, NO_LINE, UNAVAILABLE."""
        if not rules.has_line(self._active(sale).sale):
            raise Refusal("NO_LINE", sale=sale)
        async with self._hubs.watching(sale) as hub:
            hub.check()
            return document(sale, hub.standing)


def _is_known(asked: tuple[ETag, ...] | None, etag: str) -> bool:
    """Whether the reader has it already. A cache on the way may have made the tag a weak one."""
    return any(each.value in ("*", etag) for each in asked or ())


def _refused(refusal: Refusal) -> web.Response:
    status = LASTING.get(refusal.word, 500 if refusal.retry_after_s is None else 503)
    kept = f"public, max-age={MAX_AGE_S}" if refusal.word in LASTING else "no-store"
    headers = {**OPEN_TO_ALL, "Cache-Control": kept}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    body = {"reason": refusal.word, "message": refusal.message}
    return web.json_response(body, status=status, headers=headers)


def _pace(standing: Standing) -> list[float] | None:
    """The range of buyers called per second in two digits, the lower end rounded down, the upper one up."""
    likely = rules.pace(standing)
    if likely is None:
        return None
    low, high = likely
    digits = [10.0 ** (math.floor(math.log10(each)) - 1) for each in likely]
    ends = math.floor(low / digits[0]) * digits[0], math.ceil(high / digits[1]) * digits[1]
    return [float(f"{end:.2g}") for end in ends]


def _written(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
