"""HTTP beside gRPC: an aiohttp application on the address that a setting names."""

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from services.kit.settings import SettingError, variable_of


class _OwnFaults(logging.Filter):
    """Lets pass what went wrong here. What is no HTTP is answered 400, and anybody can send a lot of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def log_own_faults_only() -> None:
    """Keeps requests that cannot be read out of this process' log."""
    logging.getLogger("aiohttp.server").addFilter(_OwnFaults())


@contextlib.asynccontextmanager
async def listening(
    application: web.Application, address: str, setting: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serves it on host:port until the block ends, with TLS where there is a context.

    Raises SettingError where it cannot listen.
    """
    log_own_faults_only()
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    except (OSError, ValueError, OverflowError):
        expected = "host:port that nobody else listens on"
        raise SettingError(variable_of(setting), repr(address), expected) from None
    try:
        yield
    finally:
        await runner.cleanup()
