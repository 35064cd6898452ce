"""Ends TLS in front of a server whose build has none: Redis as such, Postgres after its SSLRequest."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from local.authority import Certificate

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass
class Ending:
    """Where TLS ends, and who came through."""

    address: str = ""
    shown: list[str] = field(default_factory=list)
    """The names in the certificates that clients showed; empty for a client without one."""


@contextlib.asynccontextmanager
async def ending(
    target: str, certificate: Certificate, *, postgres: bool = False, client_required: bool = False
) -> AsyncIterator[Ending]:
    """Listens with TLS for the block, and passes on what is said to and by the plain server at `target`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate.ca))
    context.load_cert_chain(certificate.cert, certificate.key)
    context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_OPTIONAL
    host, _, port = target.rpartition(":")
    found = Ending()
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if postgres:
                if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.start_tls(context)
            subject = (writer.get_extra_info("peercert") or {}).get("subject", [[("", "")]])
            found.shown.append(subject[0][0][1])
            upstream = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else context)
    found.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
