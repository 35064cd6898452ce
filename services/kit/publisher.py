"""Publishes what many callers publish at once as one atomic batch, each message behind its own fence.

JetStream on one node syncs to disk before it answers (`sync_interval: always`), and an atomic batch is synced
once (nats-server 2.15; 2.12 takes batches, too). So messages that come while a batch is under way share the
next sync.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.errors import APIError

from services.kit.batcher import Batcher
from services.kit.streams import EXPECTED_SEQUENCE_HEADER, publish_fenced

BATCH_ID_HEADER = "Nats-Batch-Id"
BATCH_SEQUENCE_HEADER = "Nats-Batch-Sequence"
BATCH_COMMIT_HEADER = "Nats-Batch-Commit"
# The server takes 1000 messages a batch; a batch must not keep others from publishing for long either.
MAX_MESSAGES = 256
MAX_BYTES = 1024 * 1024
MAX_PENDING = 100_000


@dataclass(frozen=True, slots=True)
class _Message:
    subject: str
    payload: bytes
    expected_seq: int
    headers: Mapping[str, str]


class Publisher:
    """One per process and stream; every message stands alone, whoever shares its batch."""

    def __init__(self, js: JetStreamContext, name: str) -> None:
        """`name` is the stream's, and what the batches are counted under."""
        self._js = js
        self._batcher: Batcher[_Message, int | Exception] = Batcher(
            self._run, MAX_MESSAGES, MAX_PENDING, name=f"publish_{name.lower()}"
        )

    async def publish(
        self, subject: str, payload: bytes, expected_seq: int, headers: Mapping[str, str] | None = None
    ) -> int:
        """Publish if the subject's last message has this stream sequence (0: none yet).

        Returns the new stream sequence. Raises WrongSequence where it has not, and Refusal OVERLOADED where
        too much waits already. Any other error leaves the outcome open: read the last message.
        """
        outcome = await self._batcher.submit(_Message(subject, payload, expected_seq, headers or {}))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self, messages: list[_Message]) -> list[int | Exception]:
        outcomes: dict[int, int | Exception] = {}
        for part in _parts(messages):
            found = await self._stored([messages[place] for place in part])
            outcomes.update(zip(part, found, strict=True))
        return [outcomes[place] for place in range(len(messages))]

    async def _stored(self, messages: Sequence[_Message]) -> list[int | Exception]:
        """All of them at once, or, where the server takes not all of them, each half by itself."""
        if len(messages) == 1:
            return [await self._single(messages[0])]
        try:
            last = await self._batch(messages)
        except APIError:
            # Nothing of it is stored, and the server does not say whose fence it was.
            middle = len(messages) // 2
            return [*await self._stored(messages[:middle]), *await self._stored(messages[middle:])]
        except Exception as problem:
            return [problem] * len(messages)
        return list(range(last - len(messages) + 1, last + 1))

    async def _single(self, message: _Message) -> int | Exception:
        try:
            return await publish_fenced(
                self._js, message.subject, message.payload, message.expected_seq, message.headers
            )
        except Exception as problem:
            return problem

    async def _batch(self, messages: Sequence[_Message]) -> int:
        """Stores all or none; the stream sequence of the last. They stand one after the other there."""
        batch = uuid.uuid4().hex
        *others, last = messages
        for place, message in enumerate(others, 1):
            headers = _headers(message, batch, place)
            await self._js._nc.publish(message.subject, message.payload, headers=headers)
        headers = {**_headers(last, batch, len(messages)), BATCH_COMMIT_HEADER: "1"}
        return (await self._js.publish(last.subject, last.payload, headers=headers)).seq


def _headers(message: _Message, batch: str, place: int) -> dict[str, str]:
    return {
        **message.headers,
        EXPECTED_SEQUENCE_HEADER: str(message.expected_seq),
        BATCH_ID_HEADER: batch,
        BATCH_SEQUENCE_HEADER: str(place),
    }


def _parts(messages: Sequence[_Message]) -> list[list[int]]:
    """Places in the list, parted into batches: a subject stands once in each, in its messages' order."""
    parts: list[list[int]] = []
    sizes: list[int] = []
    earliest: dict[str, int] = {}
    for place, message in enumerate(messages):
        size = len(message.payload)
        part = earliest.get(message.subject, 0)
        while part < len(parts) and sizes[part] + size > MAX_BYTES:
            part += 1
        if part == len(parts):
            parts.append([])
            sizes.append(0)
        parts[part].append(place)
        sizes[part] += size
        earliest[message.subject] = part + 1
    return parts
