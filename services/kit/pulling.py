"""Pulls messages from JetStream consumers, and follows a stream live."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Literal, Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from services.kit.logs import get_logger
from services.kit.messages import Position, RawMsg, from_consumer
from services.kit.tasks import raise_if_cancelled

log = get_logger(__name__)

Start = Literal["new", "all", "last_per_subject"]

EXPIRES_S = 30.0
HEARTBEAT_S = 1.0
# A request without a sign of life for this long was lost, with the connection or with the server.
SILENCE_S = 2.5 * HEARTBEAT_S
# The server forgets a follower that has not asked for so long.
INACTIVE_S = 60.0
RETRY_S = 0.25


class ConsumerGone(NatsError):
    """The server does not know the consumer any more; it must be created again."""


class Pull:
    """Keeps one pull request open at a consumer: the next messages come while the last are handled."""

    def __init__(self, js: JetStreamContext, stream: str, consumer: str, batch: int) -> None:
        self._nc = js._nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch = batch
        self._messages: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._wanted = 0
        self._gone = False
        self._closing = False
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._requests = 0

    async def open(self) -> None:
        self._inbox = self._nc.new_inbox()
        self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._on_message)
        await self._request()

    async def take(self) -> list[Msg]:
        """What has arrived, at most a batch; waits for at least one. Raises ConsumerGone."""
        raise_if_cancelled()
        while not self._messages:
            if self._gone:
                raise ConsumerGone
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), SILENCE_S)
            except TimeoutError:
                await self._request()
        taken = [self._messages.popleft() for _ in range(min(self._batch, len(self._messages)))]
        if self._wanted <= 0:
            await self._request()
        return taken

    async def close(self) -> list[Msg]:
        """Ask for nothing more; what has arrived and nobody took."""
        self._closing = True
        if self._subscription is not None and self._nc.is_connected:
            # Draining, because the server may be sending: what it sends to nobody is late by the ack wait.
            with contextlib.suppress(NatsError, TimeoutError):
                await self._subscription.drain()  # type: ignore[no-untyped-call]
        return list(self._messages)

    async def _request(self) -> None:
        self._requests += 1
        self._wanted = self._batch
        body = {
            "batch": self._batch,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        await self._nc.publish(
            self._subject, json.dumps(body).encode(), reply=f"{self._inbox}.{self._requests}"
        )

    async def _on_message(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._messages.append(message)
            self._wanted -= 1
        elif status != "100" and message.subject == f"{self._inbox}.{self._requests}":
            self._wanted = 0
            self._gone = status == "503" or "Deleted" in (message.headers or {}).get("Description", "")
            if status not in ("404", "408") and not self._closing:
                # Not the request's ordinary end: asking on at once could go round and round.
                await asyncio.sleep(RETRY_S)
        # A batch in hand is enough to go on with: what is not asked for is free for other replicas.
        enough = self._closing or self._gone or len(self._messages) >= self._batch
        if self._wanted <= 0 and not enough:
            await self._request()
        self._arrived.set()


class Follower:
    """Follows subjects of a stream in stream order, without acknowledging and without a durable consumer.

    `start` says from where: `new` is what is stored after `open`, `all` the whole stream,
    `last_per_subject` the last message of each subject and then what is new. When the consumer is lost, with
    its server for example, another one goes on after the last message seen: nothing is missed or repeated,
    unless the server itself lost the end of the stream. `on_created` is told of every consumer that the
    server has confirmed, for those to whom that matters.
    """

    def __init__(
        self,
        js: JetStreamContext,
        stream: str,
        subjects: list[str],
        *,
        start: Start = "new",
        batch: int = 256,
        on_created: Callable[[], None] = lambda: None,
    ) -> None:
        self._js = js
        self._stream = stream
        self._subjects = subjects
        self._on_created = on_created
        self._start = start
        self._batch = batch
        self._seen = 0
        self._consumer_seq = 0
        self._consumer = ""
        self._pull: Pull | None = None
        self.pending_at_start = 0
        """How many messages there were to read when it was opened."""

    async def open(self) -> None:
        """Create the consumer: whatever is stored from here on will be delivered."""
        if self._start == "new":
            # A fixed start, so that losing the consumer before its first message loses nothing.
            self._seen = (await self._js.stream_info(self._stream)).state.last_seq
        self.pending_at_start = await self._create(from_start=self._start == "last_per_subject")

    async def next_batch(self) -> list[RawMsg]:
        """The next messages, at least one."""
        while True:
            if self._pull is None:
                await self._create_again()
                continue
            try:
                delivered = await self._pull.take()
            except ConsumerGone:
                await self._drop()
                continue
            batch = self._in_order(delivered)
            if len(batch) < len(delivered):
                # One was lost on its way; a consumer that does not acknowledge never sends it again.
                await self._drop()
            if batch:
                return batch

    async def close(self) -> None:
        consumer = self._consumer
        await self._drop()
        if consumer and self._js._nc.is_connected:
            try:
                await self._js.delete_consumer(self._stream, consumer)
            except (NatsError, NatsTimeoutError):
                log.debug("follower_not_deleted", stream=self._stream, consumer=consumer)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[RawMsg]:
        while True:
            for message in await self.next_batch():
                yield message

    def _in_order(self, delivered: list[Msg]) -> list[RawMsg]:
        batch: list[RawMsg] = []
        for message in delivered:
            position = Position.of(message)
            if position.consumer_seq != self._consumer_seq + 1:
                break
            self._consumer_seq = position.consumer_seq
            self._seen = max(self._seen, position.stream_seq)
            batch.append(from_consumer(message))
        return batch

    async def _create(self, *, from_start: bool = False) -> int:
        config = ConsumerConfig(
            name=self._js._nc._nuid.next().decode(),
            ack_policy=AckPolicy.NONE,
            filter_subjects=self._subjects,
            inactive_threshold=INACTIVE_S,
            num_replicas=1,
            mem_storage=True,
        )
        if from_start:
            config.deliver_policy = DeliverPolicy.LAST_PER_SUBJECT
        else:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._seen + 1
        info = await self._js.add_consumer(self._stream, config)
        self._consumer = info.name
        self._consumer_seq = 0
        self._pull = Pull(self._js, self._stream, info.name, self._batch)
        await self._pull.open()
        self._on_created()
        return info.num_pending or 0

    async def _create_again(self) -> None:
        try:
            # A server that lost the end of the stream numbers anew from there.
            last = (await self._js.stream_info(self._stream)).state.last_seq
            self._seen = min(self._seen, last)
            await self._create(from_start=self._start == "last_per_subject" and not self._seen)
        except (APIError, NatsError, NatsTimeoutError, TimeoutError) as problem:
            log.warning("follower_waits", stream=self._stream, problem=str(problem))
            await asyncio.sleep(RETRY_S)

    async def _drop(self) -> None:
        pull, self._pull, self._consumer = self._pull, None, ""
        if pull is not None:
            await pull.close()
