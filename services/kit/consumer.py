"""Works through a stream with a durable consumer: every message until its handler is done with it."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from catraca.events.v1.events_pb2 import DeadLetter
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.messages import Position, RawMsg, from_consumer
from services.kit.pulling import RETRY_S, ConsumerGone, Pull

log = get_logger(__name__)

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
# A handler whose store is down is called again after this at most.
LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed to a handler."""

    message: RawMsg
    tries: int
    """How often it was delivered, this time included."""
    last_try: bool
    """An `Again` for it is its end: it becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Again:
    """The message failed and is to be tried again, until it has been tried too often."""

    problem: str
    after_s: float | None = None
    """When; otherwise after a time that grows with its tries."""


@dataclass(frozen=True, slots=True)
class Poison:
    """The message can never be worked through: it becomes a dead letter at once."""

    problem: str


# One outcome per delivery, in order, None for done; or None for all of them done.
Outcomes = Sequence[Again | Poison | None] | None
Handler = Callable[[list[Delivery]], Awaitable[Outcomes]]


async def consume(
    js: JetStreamContext,
    stream: str,
    durable: str,
    handler: Handler,
    *,
    subject: str | None = None,
    batch: int = 256,
    max_tries: int = 20,
    ack_wait_s: float = 30.0,
    max_pending: int | None = None,
) -> None:
    """Hand the stream's messages to the handler in batches, until cancelled.

    Replicas with the same `durable` share the messages. A message is delivered until it is acknowledged, so a
    handler must take one twice. What its outcome says happens to each message; a handler that raises had no
    fault with the messages (its store is down): all of them come again, later and for as long as it takes.
    `max_pending` is how many may be delivered and not done, those that wait to come again included: a bound
    would stop all others where some wait long. −1 is no bound.
    """
    worker = _Worker(js, stream, durable, handler, max_tries, ack_wait_s)
    config = ConsumerConfig(
        name=durable,
        durable_name=durable,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait_s,
        filter_subject=subject,
        max_deliver=-1,
        max_ack_pending=max(1000, 8 * batch) if max_pending is None else max_pending,
    )
    for outcome in ("done", "again", "failed", "dead"):
        # From the start, as the first one is seen only against a zero before it.
        metrics.CONSUMER_OUTCOMES.labels(durable, outcome)

    async def count_pending() -> None:
        info = await js.consumer_info(stream, durable)
        waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
        metrics.CONSUMER_PENDING.labels(durable).set(waiting)

    while True:
        pull = Pull(js, stream, durable, batch)
        try:
            await js.add_consumer(stream, config)
            await pull.open()
            with metrics.read_before_scrape(count_pending):
                await worker.work(pull)
        except ConsumerGone:
            log.warning("consumer_gone", stream=stream, durable=durable)
        except (NatsError, TimeoutError) as problem:
            log.warning("consumer_waits", stream=stream, durable=durable, problem=str(problem))
            await asyncio.sleep(RETRY_S)
        finally:
            # Somebody else can have at once what was fetched and not done. Handed back before the pull is
            # closed it would come back here.
            left, worker.held = [*await pull.close(), *worker.held], []
            for message in left:
                await _answer(message, b"-NAK")


class _Worker:
    def __init__(
        self,
        js: JetStreamContext,
        stream: str,
        durable: str,
        handler: Handler,
        max_tries: int,
        ack_wait_s: float,
    ) -> None:
        self._js = js
        self._stream = stream
        self._durable = durable
        self._handler = handler
        self._max_tries = max_tries
        self._ack_wait_s = ack_wait_s
        self._failures = 0
        self.held: list[Msg] = []
        """What the handler has and is not done with."""

    async def work(self, pull: Pull) -> None:
        while True:
            self.held = messages = await pull.take()
            keeper = asyncio.create_task(self._keep(messages))
            try:
                outcomes = await self._handle(messages)
            finally:
                keeper.cancel()
            for message, outcome in zip(messages, outcomes, strict=True):
                await self._settle(message, outcome)
            self.held = []
            if self._failures:
                await asyncio.sleep(min(_delay_s(self._failures), LONGEST_PAUSE_S))

    async def _handle(self, messages: list[Msg]) -> Sequence[Again | Poison | Exception | None]:
        deliveries = []
        for message in messages:
            tries = Position.of(message).tries
            deliveries.append(Delivery(from_consumer(message), tries, tries >= self._max_tries))
        try:
            outcomes = await self._handler(deliveries)
            if outcomes is not None and len(outcomes) != len(deliveries):
                raise ValueError(f"{len(outcomes)} outcomes for {len(deliveries)} messages")
        except Exception as failure:
            self._failures += 1
            log.warning("handler_failed", durable=self._durable, messages=len(messages), exc_info=True)
            return [failure] * len(messages)
        self._failures = 0
        return outcomes if outcomes is not None else [None] * len(messages)

    async def _settle(self, message: Msg, outcome: Again | Poison | Exception | None) -> None:
        position = Position.of(message)
        tries = position.tries
        if outcome is None:
            await _answer(message, b"+ACK")
            metrics.CONSUMER_DELAY.labels(self._durable).observe(
                max(0.0, time.time() - position.at_ms / 1000)
            )
            became = "done"
        elif isinstance(outcome, Exception):
            # Not the message's fault: it need not wait longer than the store is down.
            await _answer(message, _nak(min(_delay_s(tries), LONGEST_PAUSE_S)))
            became = "failed"
        elif isinstance(outcome, Poison) or tries >= self._max_tries:
            await self._bury(message, outcome.problem, tries)
            became = "dead"
        else:
            after_s = outcome.after_s if outcome.after_s is not None else _delay_s(tries)
            await _answer(message, _nak(after_s))
            became = "again"
        metrics.CONSUMER_OUTCOMES.labels(self._durable, became).inc()

    async def _bury(self, message: Msg, problem: str, tries: int) -> None:
        raw = from_consumer(message)
        letter = DeadLetter(
            subject=raw.subject,
            stream_sequence=raw.seq,
            headers=dict(raw.headers),
            payload=raw.data,
            problem=problem,
            tries=tries,
            at_ms=int(time.time() * 1000),
        )
        log.error(
            "dead_letter", durable=self._durable, subject=raw.subject, sequence=raw.seq, problem=problem
        )
        # Stored before it is acknowledged; a crash in between buries it twice, under one message id.
        headers = {"Nats-Msg-Id": f"{self._durable}-{self._stream}-{raw.seq}"}
        await self._js.publish(f"catraca.dead.{self._durable}", letter.SerializeToString(), headers=headers)
        await _answer(message, b"+TERM")

    async def _keep(self, messages: list[Msg]) -> None:
        """Tell the server that the messages are still being worked on."""
        while True:
            await asyncio.sleep(self._ack_wait_s / 3)
            for message in messages:
                await _answer(message, b"+WPI")


async def _answer(message: Msg, answer: bytes) -> None:
    # Not Msg.ack(): a message is answered more than once here. A lost answer only means a redelivery.
    with contextlib.suppress(NatsError):
        await message._client.publish(message.reply, answer)


def _nak(after_s: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": int(after_s * 1e9)}).encode()


def _delay_s(tries: int) -> float:
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(tries, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret
