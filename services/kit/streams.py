"""JetStream as Catraca uses it: every stream and bucket in one table, connecting, publishing with a fence."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from services.kit import tls, tracing
from services.kit.consumer import Again, Delivery, Handler, Outcomes, Poison, consume
from services.kit.logs import get_logger
from services.kit.messages import RawMsg, last_message, last_per_subject, read_all
from services.kit.pulling import Follower
from services.kit.rights import streams_of
from services.kit.settings import SettingError, variable_of

__all__ = [
    "Again",
    "Delivery",
    "Follower",
    "Handler",
    "Outcomes",
    "Poison",
    "RawMsg",
    "WrongSequence",
    "cloud_headers",
    "connect_nats",
    "consume",
    "declare",
    "inbox_of",
    "kv_subject",
    "last_message",
    "last_per_subject",
    "prepare",
    "publish_fenced",
    "read_all",
    "stream_of",
]

log = get_logger(__name__)

# The first server that takes messages as one batch; an older one stores each by itself, and does not say so.
OLDEST_SERVER = (2, 12)
# The largest message a stream takes; a server's own max_payload may be lower.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
DECLARE_TRIES = 20
DECLARE_PAUSE_S = 0.25

WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_EXISTS_OTHERWISE = 10058
EXPECTED_SEQUENCE_HEADER = "Nats-Expected-Last-Subject-Sequence"


@dataclass(frozen=True)
class Stream:
    """One stream: nothing leaves it by age or size, what was settled is purged by whoever archived it."""

    name: str
    subject: str
    description: str
    compressed: bool = False
    bucket: bool = False
    rollup: bool = False
    """An object's description takes the place of the one before, as a key's value does in a bucket."""
    history: int = -1
    """Messages kept per subject; −1 keeps all."""


STREAMS = (
    Stream(
        "INVENTORY", "catraca.inventory.*.units", "Changes of units and promises, per sale", compressed=True
    ),
    Stream("QUEUE", "catraca.queue.*.line", "Changes of the line, per sale", compressed=True),
    Stream("INTAKE", "catraca.intake.>", "Orders as they were asked for: one message per idempotency key"),
    Stream("CHECKOUT", "catraca.checkout.*.order.>", "Orders, one message per state"),
    Stream("LOST", "catraca.lost.>", "Holds that went with their store, one message each, for their buyers"),
    Stream("TURNS", "catraca.turn.>", "Turns that are near or have come, for who wanted to be told"),
    Stream("DEAD", "catraca.dead.>", "Messages that could not be worked through, for a person"),
    Stream("KV_sales", "$KV.sales.>", "Definitions of sales", bucket=True, history=64),
    Stream("KV_epochs", "$KV.epochs.>", "Epochs of the sales' stores", bucket=True, history=64),
    Stream(
        "KV_draws", "$KV.draws.>", "Seeds of the draws; only the queue may read them", bucket=True, history=1
    ),
    Stream("OBJ_plans", "$O.plans.>", "Seating plans by digest: an object store", rollup=True),
)


class NatsSettings(Protocol):
    """The part of a service's settings that says where NATS is."""

    @property
    def nats_url(self) -> str: ...


class StoreSettings(Protocol):
    """The part of a service's settings that says who makes its streams."""

    @property
    def stores_prepared(self) -> bool: ...
    @property
    def stream_replicas(self) -> int: ...


class WrongSequence(Exception):
    """Somebody else published: the subject's last message is not the expected one. Nothing was stored."""


class _Client(Client):
    """A client that is never talked out of TLS: what a server says of itself comes before the handshake."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        asked = initial_connection and server is not None and server.uri.scheme == "tls"
        if asked and not info.get("tls_required"):
            raise NatsError("the server offers no TLS, and the URL asks for it")
        await super()._process_info(info, initial_connection)


def inbox_of(name: str) -> str:
    """The prefix of a client's inboxes: answers to one are not for another to read."""
    return f"_INBOX.{name}"


async def connect_nats(
    settings: NatsSettings, name: str = "catraca", context: ssl.SSLContext | None = None
) -> Client:
    """Connect, waiting for the server if need be, and stay connected through its restarts.

    `context` is what URLs of tls:// are connected with, in place of the machine's CAs. Raises SettingError
    for a server that does not let us in at first, or whose certificate is not believed.
    """
    connected = False

    async def problem(error: Exception) -> None:
        if not connected:
            _raise_if_lasting(error)
        log.warning("nats_problem", problem=str(error) or type(error).__name__)

    async def lost() -> None:
        if not client.is_closed:
            log.warning("nats_lost")

    async def back() -> None:
        log.info("nats_back")

    client = _Client()
    await client.connect(
        settings.nats_url.split(","),
        name=name,
        inbox_prefix=inbox_of(name),
        tls=context,
        error_cb=problem,
        disconnected_cb=lost,
        reconnected_cb=back,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,  # type: ignore[arg-type]  # a fraction of a second is fine
        connect_timeout=5,
        ping_interval=5,
        max_outstanding_pings=3,
        pending_size=64 * 1024 * 1024,
    )
    connected = True
    return client


def _raise_if_lasting(error: Exception) -> None:
    """Raises SettingError for what waiting does not mend: only other settings do."""
    why = tls.distrust(error)
    if why is not None:
        raise tls.distrusted("nats_url", "nats_ca_file", why) from None
    if "authorization violation" in str(error).lower():
        expected = "a user and password that may use it"
        raise SettingError(variable_of("nats_url"), "refused by its NATS", expected) from None


async def prepare(js: JetStreamContext, settings: StoreSettings, service: str) -> None:
    """See to it that the streams and buckets which a service uses are there.

    They are made, or waited for where somebody with more rights makes them. Raises SettingError for a server
    that is too old.
    """
    _require_batches(js)
    if not settings.stores_prepared:
        return await declare(js, settings.stream_replicas)
    for stream in sorted(streams_of(service)):
        while not await _exists(js, stream):
            log.warning("stream_waits", stream=stream)
            await asyncio.sleep(DECLARE_PAUSE_S)
    return None


def _require_batches(js: JetStreamContext) -> None:
    version = js._nc.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        raise SettingError(
            variable_of("nats_url"),
            f"a NATS server {version.major}.{version.minor}.{version.patch}",
            "2.12 or newer",
        )


async def _exists(js: JetStreamContext, stream: str) -> bool:
    try:
        await js.stream_info(stream)
    except (NotFoundError, ServiceUnavailableError, NatsTimeoutError):
        return False
    return True


async def declare(js: JetStreamContext, replicas: int = 1) -> None:
    """Create every stream and bucket, or bring one that differs to what the table says.

    Services start at once and all of them declare: creating the same stream twice is no error for the server.
    Raises SettingError for a server that is too old.
    """
    _require_batches(js)
    for stream in STREAMS:
        await _declare(js, _config(stream, replicas))


def stream_of(subject: str) -> str:
    """The stream that keeps a subject."""
    for stream in STREAMS:
        if subject.startswith(stream.subject.split("*")[0].rstrip(">")):
            return stream.name
    raise ValueError(f"no stream keeps {subject}")


def kv_subject(bucket: str, key: str) -> str:
    """The subject of a bucket's key; its value is the subject's last message in the stream `KV_<bucket>`."""
    return f"$KV.{bucket}.{key}"


async def publish_fenced(
    js: JetStreamContext,
    subject: str,
    payload: bytes,
    expected_seq: int,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Publish if the subject's last message has this stream sequence (0: none yet). Returns the new sequence.

    Raises WrongSequence where it has not. Any other error leaves the outcome open: read the last message.
    """
    fenced = {**(headers or {}), EXPECTED_SEQUENCE_HEADER: str(expected_seq)}
    try:
        acknowledged = await js.publish(subject, payload, headers=fenced)
    except APIError as refusal:
        if refusal.err_code in WRONG_LAST_SEQUENCE:
            raise WrongSequence(f"{subject}: expected {expected_seq}: {refusal.description}") from refusal
        raise
    return acknowledged.seq


def cloud_headers(
    type: str, source: str, subject: str, id: str, at_ms: int, traceparent: str | None = None
) -> dict[str, str]:
    """A CloudEvent's attributes as headers (binary mode), with the current trace, or else `traceparent`."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-type": type,
        "ce-source": source,
        "ce-subject": subject,
        "ce-time": moment.replace("+00:00", "Z"),
        "content-type": "application/protobuf",
    }
    parent = tracing.traceparent() or traceparent
    if parent:
        headers[tracing.HEADER] = parent
    return headers


def _config(stream: Stream, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        description=stream.description,
        subjects=[stream.subject],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        # A stream that is full refuses what is new: what is stored was promised to somebody.
        discard=DiscardPolicy.NEW,
        max_msgs=-1,
        max_bytes=-1,
        max_age=0,
        max_msgs_per_subject=stream.history,
        max_msg_size=MAX_MESSAGE_BYTES,
        allow_direct=True,
        allow_atomic=True,
        compression=StoreCompression.S2 if stream.compressed else StoreCompression.NONE,
        # What a key-value client expects of a bucket.
        allow_rollup_hdrs=stream.bucket or stream.rollup,
        deny_delete=stream.bucket,
        duplicate_window=120,
    )


async def _declare(js: JetStreamContext, config: StreamConfig) -> None:
    for attempt in range(DECLARE_TRIES):
        try:
            await js.add_stream(config)
            return
        except ServiceUnavailableError:
            # A cluster that is still electing its leaders answers so.
            if attempt == DECLARE_TRIES - 1:
                raise
            await asyncio.sleep(DECLARE_PAUSE_S)
        except APIError as refusal:
            if refusal.err_code != STREAM_EXISTS_OTHERWISE:
                raise
            await js.update_stream(config)
            return
