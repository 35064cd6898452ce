"""Connections to Redis: one server, behind Sentinels, or a cluster; binary answers, bounded waits.

A URL says which it is:

    redis://user:password@host:port                         one server; rediss:// for TLS
    redis+sentinel://user:password@host:port,…/service      the master that these Sentinels name; rediss+sentinel://
    redis+cluster://user:password@host:port,…               a cluster, found by any of its nodes; rediss+cluster://
"""

import asyncio
import builtins
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    TimeoutError,
)

from services.kit import tls
from services.kit.logs import get_logger
from services.kit.settings import CommonSettings, SettingError, variable_of

log = get_logger(__name__)

# A blocking read (XREAD BLOCK) must wait less than this.
SOCKET_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
_CONNECTIONS = 16
_POOL_WAIT_S = 2.0
RETRIES = 4
_WAIT_S = 0.5
_DEFAULT_PORT = 6379

# What a server that is gone, or about to be another, answers; the same command may be sent again.
OUTAGES = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    ClusterError,
)

Told = Callable[[], None]


@dataclass(frozen=True)
class Place:
    """What a URL says: where Redis is, who we are there, and which kind of it."""

    kind: str
    """`redis`, `sentinel` or `cluster`."""
    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    service: str = ""
    """What the Sentinels call it."""

    @classmethod
    def of(cls, url: str) -> "Place":
        """Raises SettingError for what is none of the three."""
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        credentials, _, named = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        service = parts.path.strip("/")
        try:
            hosts = tuple(_host(each) for each in named.split(","))
        except ValueError:
            hosts = ()
        known = scheme in ("redis", "rediss") and kind in ("sentinel", "cluster")
        if not (known and hosts) or (kind == "sentinel") != bool(service):
            raise SettingError(
                variable_of("redis_url"),
                "set to something else",
                "redis://host:port, redis+sentinel://host:port,…/service or redis+cluster://host:port,…",
            )
        return cls(kind, hosts, unquote(username) or None, unquote(password) or None, service)


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(_DEFAULT_PORT))
    if not host:
        raise ValueError(text)
    return host, int(port)


def connect_to(
    settings: CommonSettings, *, retries: int = RETRIES, on_reconnect: Told | None = None
) -> Redis:
    """A client of the Redis that the settings name. Raises SettingError for files that cannot be used."""
    return connect(
        settings.redis_url or "", tls.to_redis(settings), retries=retries, on_reconnect=on_reconnect
    )


def connect(
    url: str,
    context: ssl.SSLContext | None = None,
    *,
    retries: int = RETRIES,
    on_reconnect: Told | None = None,
) -> Redis:
    """A client whose connections open when they are first used. Close it with `aclose()`.

    `context` is what a URL of rediss:// is connected with, in place of the machine's CAs. A command whose
    answer was lost is sent again up to `retries` times: a script answers a known id with its first result.
    `on_reconnect` is called whenever a connection was lost and made again, perhaps with another server.
    Raises SettingError for a URL that is none.
    """
    how = _behaviour(context, on_reconnect or _nobody)
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), retries)
    if "+" not in urlsplit(url).scheme:
        return _one_server(url, how, retry)
    place, is_tls = Place.of(url), url.startswith("rediss")
    if place.kind == "sentinel":
        return _behind_sentinels(place, is_tls, how, retry)
    # Whoever uses a client asks for nothing that a cluster's does otherwise: each command is for keys of
    # one tag.
    return cast("Redis", _cluster(place, is_tls, how, retry))


def _nobody() -> None:
    """Is told of nothing."""


class Reconnects:
    """Passes on that a connection was lost, once there is somebody to tell: give it as `on_reconnect`."""

    def __init__(self) -> None:
        self.tell: Told = _nobody

    def __call__(self) -> None:
        """A connection was lost and made again."""
        self.tell()


def _common(retry: Retry) -> dict[str, Any]:
    return {
        "decode_responses": False,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "protocol": 2,
        "retry": retry,
        "retry_on_error": [ConnectionError, TimeoutError, BusyLoadingError],
    }


def _behaviour(context: ssl.SSLContext | None, told: Told) -> dict[str, Any]:
    """What every connection of a client has of its own, whatever kind it is."""
    how: dict[str, Any] = {"told": staticmethod(told)}
    if context is not None:

        def arguments(connection: Connection) -> Mapping[str, Any]:
            return {**Connection._connection_arguments(connection), "ssl": context}

        how["_connection_arguments"] = arguments
    return how


def _made(kind: type[Any], how: dict[str, Any]) -> type[Any]:
    return type(kind.__name__, (_Ours, kind), how)


def _one_server(url: str, how: dict[str, Any], retry: Retry) -> Redis:
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url, max_connections=_CONNECTIONS, timeout=_POOL_WAIT_S, **_common(retry)
    )
    pool.connection_class = _made(pool.connection_class, how)
    return Redis.from_pool(pool)


def _behind_sentinels(place: Place, is_tls: bool, how: dict[str, Any], retry: Retry) -> Redis:
    """Each connection asks the Sentinels who the master is. They are believed by the same CA."""
    kinds = (SentinelManagedConnection, SSLConnection) if is_tls else (SentinelManagedConnection,)
    kind = type("SentinelConnection", (_Ours, *kinds), how)
    asked = Sentinel(  # type: ignore[no-untyped-call]
        place.hosts,
        sentinel_kwargs={"socket_timeout": _CONNECT_TIMEOUT_S, "socket_connect_timeout": _CONNECT_TIMEOUT_S},
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        place.service,
        asked,
        connection_class=kind,
        max_connections=_CONNECTIONS * 4,
        username=place.username,
        password=place.password,
        **_common(retry),
    )
    return Redis.from_pool(pool)


def _cluster(place: Place, is_tls: bool, how: dict[str, Any], retry: Retry) -> RedisCluster:
    """Sales are spread over its nodes by their tag."""
    common = _common(retry)
    common["retry_on_error"] = None
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in place.hosts],
        max_connections=_CONNECTIONS * 4,
        username=place.username,
        password=place.password,
        ssl=is_tls,
        **common,
    )
    kind = _made(SSLConnection if is_tls else Connection, how)
    # The library has no argument for it; nodes that it finds later are made from the same arguments.
    cluster.connection_kwargs["connection_class"] = kind
    for node in cluster.startup_nodes:
        node.connection_class = kind
    return cluster


class _Ours(Connection):
    """A connection whose commands can be cancelled at any moment, and that tells when it was made again.

    The library bounds a write with `wait_for`, which on Python 3.11 loses a cancellation that arrives just
    when the write is done: a loop that was told to stop would go on. `timeout` does not, and costs no task.
    """

    told: Told = staticmethod(_nobody)
    _was_connected = False

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """As the library's, and tells of every time but the first."""
        await super().on_connect_check_health(check_health)
        if self._was_connected:
            self.told()
        self._was_connected = True

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """As the library's, within the socket's timeout."""
        timeout_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(timeout_s):
                await super().send_packed_command(command, check_health)
        except builtins.TimeoutError:
            raise TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = timeout_s


@dataclass(frozen=True, slots=True)
class Copies:
    """How many replicas of Redis must have a change before it is answered, and how long that may take."""

    number: int = 0
    within_ms: int = 0

    @classmethod
    def of(cls, url: str, number: int, within_ms: int) -> "Copies":
        """Raises SettingError for a cluster: its client has no connection for two commands in a row."""
        if number and urlsplit(url).scheme.endswith("+cluster"):
            raise SettingError(
                variable_of("redis_copies"),
                f"{number} with a cluster",
                "0 there; its nodes have min-replicas-to-write",
            )
        return cls(number, within_ms)

    async def sure(self, redis: Redis, *command: Any) -> Any:
        """The command's answer, once so many replicas have what it changed.

        Raises TimeoutError where they have it not in time: it is done all the same, and sending it again is
        what tells whether they have it by then.
        """
        if not self.number:
            return await redis.execute_command(*command)  # type: ignore[no-untyped-call]
        async with redis.pipeline(transaction=False) as both:
            both.execute_command(*command)
            both.execute_command("WAIT", self.number, self.within_ms)
            answer, have = await both.execute(raise_on_error=False)
        for each in (answer, have):
            if isinstance(each, Exception):
                raise each
        if have < self.number:
            raise TimeoutError(f"{have} of {self.number} replicas have it after {self.within_ms} ms")
        return answer


ONLY_ONE = Copies()


async def require_noeviction(redis: Redis) -> None:
    """Waits for Redis, and refuses one that may drop keys of a running sale to make room.

    Raises SettingError if maxmemory-policy is not noeviction, if Redis does not let us in, or if its
    certificate is not believed. INFO is asked, as CONFIG is often forbidden.
    """
    for memory in await _memories_of(redis):
        policy = memory.get("maxmemory_policy", "unknown")
        if policy != "noeviction":
            raise SettingError(
                variable_of("redis_url"),
                f"a Redis whose maxmemory-policy is {policy}",
                "one whose maxmemory-policy is noeviction, as evicted keys are lost promises",
            )


async def _memories_of(redis: Redis) -> list[dict[str, Any]]:
    """What Redis, or each node of a cluster, says of its memory, as soon as there is one that answers."""
    while True:
        try:
            memory: dict[str, Any] = await redis.info("memory")
            # A cluster answers by node.
            return [memory] if "maxmemory_policy" in memory else list(memory.values())
        except (AuthenticationError, AuthorizationError, NoPermissionError):
            raise SettingError(
                variable_of("redis_url"), "refused by its Redis", "a user and password that may use it"
            ) from None
        except OUTAGES as problem:
            why = tls.distrust(problem)
            if why is not None:
                raise tls.distrusted("redis_url", "redis_ca_file", why) from None
            log.warning("redis_waits", problem=str(problem))
            await asyncio.sleep(_WAIT_S)
