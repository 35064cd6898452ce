"""Runs the sandbox payment provider: `python -m local.sandbox`."""

import asyncio
import contextlib
import signal

import uvloop
from aiohttp import web

from local.sandbox.app import Sandbox
from local.sandbox.config import SandboxSettings
from local.sandbox.ledger import Ledger
from local.sandbox.sender import Sender
from services.checkout.providers.sandbox import Secrets, load_secrets
from services.kit import logs
from services.kit.http import log_own_faults_only
from services.kit.settings import SettingError, exit_for, load_or_exit


def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = load_or_exit(SandboxSettings)
    logs.configure("sandbox", settings.log_level)
    try:
        secrets = load_secrets(settings.sandbox_key_file)
    except SettingError as error:
        exit_for(error)
    uvloop.run(serve(settings, secrets))


async def serve(settings: SandboxSettings, secrets: Secrets) -> None:
    """Listen until a signal to stop."""
    ledger = Ledger(settings.sandbox_ledger)
    await ledger.open()
    sender = Sender(ledger, settings, secrets)
    sending = asyncio.create_task(sender.run())
    log_own_faults_only()
    runner = web.AppRunner(Sandbox(settings, secrets, ledger, sender).application(), access_log=None)
    await runner.setup()
    host, _, port = settings.sandbox_listen.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, sending}, return_when=asyncio.FIRST_COMPLETED)
    await runner.cleanup()
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        # If it ended by itself, its error ends this process.
        await sending
    await ledger.close()


if __name__ == "__main__":
    main()
