"""Reads a sale's sessions from the payment provider's own ledger."""

import json
from pathlib import Path

import aiohttp

from local.audit.facts import Session


def api_key(key_file: Path) -> str:
    """What the sandbox wants to be shown."""
    return str(json.loads(key_file.read_text())["api_key"])


async def sessions(url: str, key: str, sale: str) -> list[Session]:
    """Every payment session of the sale, as the sandbox has it."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(raise_for_status=True, headers=headers) as client,
        client.get(f"{url}/v1/ledger", params={"sale": sale}) as answer,
    ):
        found = (await answer.json())["sessions"]
    return [Session(**{name: session[name] for name in Session.__slots__}) for session in found]
