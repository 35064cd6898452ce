"""What the sandbox does with a payment session: each function is one transaction on the ledger."""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]

GOOD_CARDS = ("approve", "approve-no-capture")
CARDS = (*GOOD_CARDS, "decline")
# Whoever makes an event sends it at once; only if that process dies does another try find it.
FIRST_SENDING_MS = 1000


class Refused(Exception):
    """A call that the sandbox answers with an HTTP status and an error word."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(frozen=True)
class Event:
    """A webhook to send."""

    event_id: str
    webhook_url: str
    body: str
    tries: int = 0


@dataclass(frozen=True)
class Done:
    """What a call did: the session after it, and the webhook that tells of it."""

    session: Body
    event: Event | None = None


def create(db: sqlite3.Connection, key: str, request: Body) -> Done:
    """Open a session; the same key answers the same session. Where to call is no part of what is asked for: a
    caller that moved in the meantime is called at its new place."""
    asked = json.dumps({name: request[name] for name in request if name != "webhook_url"}, sort_keys=True)
    known = db.execute("select * from sessions where idempotency_key = ?", (key,)).fetchone()
    if known is not None:
        if known["request"] != asked:
            raise Refused(409, "idempotency_key_reused")
        moved = (request["webhook_url"], known["session_id"])
        db.execute("update sessions set webhook_url = ? where session_id = ?", moved)
        return Done(find(db, known["session_id"]))
    session_id = f"cs_{secrets.token_urlsafe(18)}"
    db.execute(
        "insert into sessions (session_id, idempotency_key, request, order_id, sale, amount, currency,"
        " webhook_url, expires_at_ms, state) values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')",
        (
            session_id,
            key,
            asked,
            request["order_id"],
            request["sale"],
            request["amount"],
            request["currency"],
            request["webhook_url"],
            request["expires_at_ms"],
        ),
    )
    return Done(find(db, session_id))


def find(db: sqlite3.Connection, session_id: str) -> Body:
    """A session. Raises Refused 404."""
    row = db.execute("select * from sessions where session_id = ?", (session_id,)).fetchone()
    if row is None:
        raise Refused(404, "no_such_session")
    return dict(row)


def state_at(session: Body, now_ms: int) -> str:
    """A session's state now: one that is open after its deadline has expired."""
    expired = session["state"] == "open" and now_ms >= session["expires_at_ms"]
    return "expired" if expired else str(session["state"])


def of_sale(db: sqlite3.Connection, sale: str) -> list[Body]:
    """Every session of a sale."""
    return [dict(row) for row in db.execute("select * from sessions where sale = ? order by rowid", (sale,))]


def pay(db: sqlite3.Connection, session_id: str, card: str, delay_ms: int, now_ms: int) -> Done:
    """The buyer's card: decided now, or after a delay even if the deadline passes in between."""
    session = find(db, session_id)
    if state_at(session, now_ms) != "open":
        return Done(session)
    if not delay_ms:
        return _decide(db, session, card, now_ms)
    db.execute(
        "update sessions set state = 'processing', card = ?, decide_at_ms = ? where session_id = ?",
        (card, now_ms + delay_ms, session_id),
    )
    return Done(find(db, session_id))


def decide_due(db: sqlite3.Connection, now_ms: int, limit: int) -> list[Event]:
    """Decide what was delayed until now; the webhooks that tell of it."""
    due = db.execute(
        "select * from sessions where state = 'processing' and decide_at_ms <= ? limit ?", (now_ms, limit)
    ).fetchall()
    done = [_decide(db, dict(session), session["card"], now_ms) for session in due]
    return [each.event for each in done if each.event is not None]


def capture(db: sqlite3.Connection, session_id: str, amount: int, now_ms: int) -> Done:
    """Take the reserved money, in full."""
    session = find(db, session_id)
    if session["state"] == "captured":
        return Done(session)
    if session["state"] != "authorized":
        raise Refused(409, f"session_{state_at(session, now_ms)}")
    if amount != session["amount"]:
        raise Refused(422, "amount_differs")
    if session["card"] == "approve-no-capture":
        raise Refused(402, "capture_refused")
    db.execute(
        "update sessions set state = 'captured', captured = amount where session_id = ?", (session_id,)
    )
    return _told(db, session_id, "captured", now_ms)


def void(db: sqlite3.Connection, session_id: str, now_ms: int) -> Done:
    """Give reserved money back and close the session; money that was taken is refunded instead."""
    session = find(db, session_id)
    if session["state"] == "voided":
        return Done(session)
    if session["state"] in ("captured", "refunded"):
        raise Refused(409, f"session_{session['state']}")
    db.execute("update sessions set state = 'voided' where session_id = ?", (session_id,))
    return _told(db, session_id, "voided", now_ms)


def refund(db: sqlite3.Connection, session_id: str, amount: int, now_ms: int) -> Done:
    """Pay taken money back, in full."""
    session = find(db, session_id)
    if session["state"] == "refunded":
        return Done(session)
    if session["state"] != "captured":
        raise Refused(409, f"session_{state_at(session, now_ms)}")
    if amount != session["amount"]:
        raise Refused(422, "amount_differs")
    db.execute(
        "update sessions set state = 'refunded', refunded = amount where session_id = ?", (session_id,)
    )
    return _told(db, session_id, "refunded", now_ms)


def events_due(db: sqlite3.Connection, now_ms: int, limit: int) -> list[Event]:
    """Webhooks whose time has come."""
    due = db.execute(
        "select event_id, webhook_url, body, tries from events"
        " where next_at_ms <= ? order by next_at_ms limit ?",
        (now_ms, limit),
    )
    return [Event(**dict(row)) for row in due]


def event_arrived(db: sqlite3.Connection, event_id: str) -> None:
    """The receiver has it."""
    db.execute("delete from events where event_id = ?", (event_id,))


def event_failed(db: sqlite3.Connection, event_id: str, next_at_ms: int) -> None:
    """The receiver did not take it; try again then."""
    db.execute(
        "update events set tries = tries + 1, next_at_ms = ? where event_id = ?", (next_at_ms, event_id)
    )


def _decide(db: sqlite3.Connection, session: Body, card: str, now_ms: int) -> Done:
    session_id = session["session_id"]
    if card in GOOD_CARDS:
        db.execute(
            "update sessions set state = 'authorized', card = ? where session_id = ?", (card, session_id)
        )
        return _told(db, session_id, "authorized", now_ms)
    db.execute(
        "update sessions set state = 'open', card = ?, declines = declines + 1 where session_id = ?",
        (card, session_id),
    )
    return _told(db, session_id, "declined", now_ms)


def _told(db: sqlite3.Connection, session_id: str, type: str, now_ms: int) -> Done:
    session = find(db, session_id)
    event_id = f"ev_{secrets.token_urlsafe(18)}"
    body = {
        "event_id": event_id,
        "type": type,
        **{name: session[name] for name in ("session_id", "order_id", "amount", "currency")},
    }
    event = Event(event_id, session["webhook_url"], json.dumps(body))
    db.execute(
        "insert into events (event_id, webhook_url, body, next_at_ms) values (?, ?, ?, ?)",
        (event.event_id, event.webhook_url, event.body, now_ms + FIRST_SENDING_MS),
    )
    return Done(session, event)
