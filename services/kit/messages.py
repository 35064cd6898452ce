"""Reads messages that a JetStream stream holds: the last of a subject, the last of many, all of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

API = "$JS.API"
ANSWER_TIMEOUT_S = 10.0
PAGE_MESSAGES = 1000
PAGE_BYTES = 8 * 1024 * 1024
# The server answers "413 Too Many Results" where one request matches more than 1024 subjects.
FILTERS_PER_REQUEST = 512
LAGGING_REPLICA_S = 0.02


@dataclass(frozen=True, slots=True)
class RawMsg:
    """One message as the stream holds it."""

    subject: str
    seq: int
    """Its sequence in the stream."""
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    at_ms: int = 0
    """When the server stored it, milliseconds since 1970."""


class ReadFailed(NatsError):
    """A direct read was answered with an error; the message says which."""


class TooManyResults(ReadFailed):
    """One request for last messages matched more subjects than the server answers at once."""


class ReplicaBehind(ReadFailed):
    """The replica that answered lacks a message that is known to be in the stream."""


async def last_message(
    js: JetStreamContext, stream: str, subject: str, *, from_leader: bool = False
) -> RawMsg | None:
    """The last message of a subject, or None where there is none.

    Any replica answers, so a message that was stored a moment ago may be missing; `from_leader` asks the
    stream's leader, which is slower and misses nothing.
    """
    try:
        message = await js.get_msg(stream, subject=subject, direct=not from_leader)
    except NotFoundError:
        return None
    return _from_stream(message)


async def read_all(
    js: JetStreamContext, stream: str, subject: str, *, after: int = 0
) -> AsyncIterator[RawMsg]:
    """Every message of a subject (wildcards allowed), from the first to what is the last when this begins.

    `after` is the stream sequence of a message that was read before: what follows it is read.
    """
    end = await last_message(js, stream, subject, from_leader=True)
    if end is None:
        return
    position = after + 1
    while position <= end.seq:
        request = {"seq": position, "next_by_subj": subject, "batch": PAGE_MESSAGES, "max_bytes": PAGE_BYTES}
        page, _ = await _ask(js._nc, stream, request)
        if not page:
            # The replica that answered lags behind the leader, or the end was purged in the meantime.
            await asyncio.sleep(LAGGING_REPLICA_S)
            end = await last_message(js, stream, subject, from_leader=True)
            if end is None:
                return
        for message in page:
            if message.seq > end.seq:
                return
            position = message.seq + 1
            yield message


async def last_per_subject(
    nc: Client, stream: str, subjects: list[str], *, witness: tuple[str, int] | None = None
) -> list[RawMsg]:
    """The last message of every subject that matches one of `subjects`, in stream order.

    Each subject's message is the last one at some moment during the call: whoever wants to miss nothing
    follows the stream first and compares sequences. Any replica may answer; with a `witness`, a message that
    is known to be in the stream by its subject and sequence, one that lacks it raises ReplicaBehind.
    """
    found: dict[str, RawMsg] = {}
    for start in range(0, len(subjects), FILTERS_PER_REQUEST):
        for message in await _last_of(nc, stream, subjects[start : start + FILTERS_PER_REQUEST], witness):
            found[message.subject] = message
    return sorted(found.values(), key=lambda message: message.seq)


async def _last_of(
    nc: Client, stream: str, filters: list[str], witness: tuple[str, int] | None
) -> list[RawMsg]:
    try:
        if witness is None:
            return await _last_by_direct_get(nc, stream, filters)
        # The same request asks for the witness, so the same replica answers for it.
        found = await _last_by_direct_get(nc, stream, [*filters, witness[0]])
    except TooManyResults:
        if len(filters) == 1:
            return await _last_by_consumer(nc, stream, filters[0])
        half = len(filters) // 2
        return await _last_of(nc, stream, filters[:half], witness) + await _last_of(
            nc, stream, filters[half:], witness
        )
    if not any(message.subject == witness[0] and message.seq >= witness[1] for message in found):
        raise ReplicaBehind(f"{stream}: the replica that answered lacks message {witness[1]}")
    return found


async def _last_by_direct_get(nc: Client, stream: str, filters: list[str]) -> list[RawMsg]:
    found: list[RawMsg] = []
    request: dict[str, Any] = {"multi_last": filters, "batch": PAGE_MESSAGES, "max_bytes": PAGE_BYTES}
    while True:
        page, end = await _ask(nc, stream, request)
        found += page
        if not page or int(end.get("Nats-Num-Pending", "0")) == 0:
            return found
        # The following pages show the stream as it was for the first one.
        request |= {"seq": page[-1].seq + 1, "up_to_seq": int(end["Nats-UpTo-Sequence"])}


async def _last_by_consumer(nc: Client, stream: str, subject: str) -> list[RawMsg]:
    from services.kit.pulling import Follower

    async with Follower(nc.jetstream(), stream, [subject], start="last_per_subject") as follower:
        found: list[RawMsg] = []
        while len(found) < follower.pending_at_start:
            found += await follower.next_batch()
    return found


async def _ask(nc: Client, stream: str, request: dict[str, Any]) -> tuple[list[RawMsg], Mapping[str, str]]:
    """One batch of a direct get: the messages, and the headers of the mark at its end."""
    page: list[RawMsg] = []
    end: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def collect(answer: Msg) -> None:
        headers = answer.headers or {}
        if "Nats-Subject" in headers:
            page.append(_from_direct(answer))
        elif not end.done():
            end.set_result(answer)

    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox, cb=collect)
    try:
        await nc.publish(f"{API}.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
        answer = await asyncio.wait_for(end, ANSWER_TIMEOUT_S)
    finally:
        await subscription.unsubscribe()
    headers = answer.headers or {}
    status = headers.get("Status", "")
    if status == "413":
        raise TooManyResults(f"{stream}: more than 1024 subjects match")
    if status == "503":
        raise NoRespondersError
    if status not in ("204", "404"):
        raise ReadFailed(f"{stream}: direct get answered {status or answer.data!r}")
    return page, headers


def _from_direct(answer: Msg) -> RawMsg:
    headers = answer.headers or {}
    return RawMsg(
        subject=headers["Nats-Subject"],
        seq=int(headers["Nats-Sequence"]),
        data=answer.data or b"",
        headers=headers,
        at_ms=_ms(datetime.fromisoformat(headers["Nats-Time-Stamp"])),
    )


def _from_stream(message: RawStreamMsg) -> RawMsg:
    if message.subject is None or message.seq is None:
        raise APIError(description="a message without subject or sequence")
    return RawMsg(
        subject=message.subject,
        seq=message.seq,
        data=message.data or b"",
        headers=message.headers or {},
        at_ms=_ms(message.time) if message.time else 0,
    )


def from_consumer(message: Msg) -> RawMsg:
    """What a consumer delivered; its place in the stream is in the reply subject."""
    position = Position.of(message)
    return RawMsg(message.subject, position.stream_seq, message.data, message.headers or {}, position.at_ms)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a delivered message stands, as its reply subject tells."""

    tries: int
    stream_seq: int
    consumer_seq: int
    at_ms: int
    pending: int
    """Messages that the consumer has yet to deliver after this one."""

    @classmethod
    def of(cls, message: Msg) -> "Position":
        # $JS.ACK.<stream>.<consumer>.<tries>.<stream seq>.<consumer seq>.<time ns>.<pending>; servers with a
        # domain put domain and account before the stream, and a token at the end.
        tokens = message.reply.split(".")
        first = 4 if len(tokens) == 9 else 6
        tries, stream_seq, consumer_seq, at_ns, pending = map(int, tokens[first : first + 5])
        return cls(tries, stream_seq, consumer_seq, at_ns // 1_000_000, pending)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
