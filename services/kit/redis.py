"""Connections to Redis: binary answers, bounded waits, repeats that are safe as every command has an id."""

import asyncio
import builtins
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
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
_RETRIES = 4
_WAIT_S = 0.5


def connect_to(settings: CommonSettings) -> Redis:
    """A client of the Redis that the settings name. Raises SettingError for files that cannot be used."""
    return connect(settings.redis_url or "", tls.to_redis(settings))


def connect(url: str, context: ssl.SSLContext | None = None) -> Redis:
    """A client whose connections open when they are first used. Close it with `aclose()`.

    `context` is what a URL of rediss:// is connected with, in place of the machine's CAs.
    """
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_POOL_WAIT_S,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=30,
        protocol=2,
        # A command whose answer was lost is sent again: a script answers a known id with its first result.
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), _RETRIES),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError],
    )
    kind = pool.connection_class
    how: dict[str, Any] = {}
    if context is not None:

        def arguments(connection: Connection) -> Mapping[str, Any]:
            return {**Connection._connection_arguments(connection), "ssl": context}

        how["_connection_arguments"] = arguments
    pool.connection_class = type(kind.__name__, (_Cancellable, kind), how)
    return Redis.from_pool(pool)


class _Cancellable(Connection):
    """A connection whose commands can be cancelled at any moment.

    The library bounds a write with `wait_for`, which on Python 3.11 loses a cancellation that arrives just
    when the write is done: a loop that was told to stop would go on. `timeout` does not, and costs no task.
    """

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


async def require_noeviction(redis: Redis) -> None:
    """Waits for Redis, and refuses one that may drop keys of a running sale to make room.

    Raises SettingError if maxmemory-policy is not noeviction, if Redis does not let us in, or if its
    certificate is not believed. INFO is asked, as CONFIG is often forbidden.
    """
    policy = (await _memory_of(redis)).get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        raise SettingError(
            variable_of("redis_url"),
            f"a Redis whose maxmemory-policy is {policy}",
            "one whose maxmemory-policy is noeviction, as evicted keys are lost promises",
        )


async def _memory_of(redis: Redis) -> dict[str, Any]:
    """What Redis says of its memory, as soon as there is one that answers."""
    while True:
        try:
            memory: dict[str, Any] = await redis.info("memory")
            return memory
        except (AuthenticationError, AuthorizationError, NoPermissionError):
            raise SettingError(
                variable_of("redis_url"), "refused by its Redis", "a user and password that may use it"
            ) from None
        except (ConnectionError, TimeoutError) as problem:
            why = tls.distrust(problem)
            if why is not None:
                raise tls.distrusted("redis_url", "redis_ca_file", why) from None
            log.warning("redis_waits", problem=str(problem))
            await asyncio.sleep(_WAIT_S)
