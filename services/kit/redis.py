"""Connections to Redis: binary answers, bounded waits, repeats that are safe as every command has an id."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

from services.kit.settings import SettingError, variable_of

# A blocking read (XREAD BLOCK) must wait less than this.
SOCKET_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
_CONNECTIONS = 16
_POOL_WAIT_S = 2.0
_RETRIES = 4


def connect(url: str) -> Redis:
    """A client whose connections open when they are first used. Close it with `aclose()`."""
    pool = BlockingConnectionPool.from_url(
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
    return Redis.from_pool(pool)


async def require_noeviction(redis: Redis) -> None:
    """Refuses a Redis that may drop keys of a running sale to make room.

    Raises SettingError if maxmemory-policy is not noeviction. INFO is asked, as CONFIG is often forbidden.
    """
    memory = await redis.info("memory")
    policy = memory.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        raise SettingError(
            variable_of("redis_url"),
            f"a Redis whose maxmemory-policy is {policy}",
            "one whose maxmemory-policy is noeviction, as evicted keys are lost promises",
        )
