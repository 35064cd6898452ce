"""HTTP beside gRPC: an aiohttp application on the address that a setting names."""

import contextlib
import ssl
from collections.abc import AsyncIterator

from aiohttp import web

from services.kit.settings import SettingError, variable_of


@contextlib.asynccontextmanager
async def listening(
    application: web.Application, address: str, setting: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serves it on host:port until the block ends, with TLS where there is a context.

    Raises SettingError where it cannot listen.
    """
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
