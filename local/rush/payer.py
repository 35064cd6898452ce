"""Pays at the sandbox provider's page, as a buyer's browser would."""

from typing import Self

import aiohttp

from local.rush.record import Answer, Done, Refused

CONNECTIONS = 32
TIMEOUT = aiohttp.ClientTimeout(total=20)


class Payer:
    """One pool of HTTP connections for all buyers."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=TIMEOUT
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def pay(self, url: str, card: str) -> Answer:
        """What the provider says: authorized, declined, expired, …; a provider that does not answer is
        asked again later."""
        try:
            async with self._session.post(url, json={"card": card}) as response:
                if response.status >= 500:
                    return Refused("UNAVAILABLE", {})
                said = await response.json()
        except (TimeoutError, aiohttp.ClientError):
            return Refused("UNAVAILABLE", {})
        return Done(str(said.get("result", f"status {response.status}")))
