"""The issuer's public keys: fetched when first needed, and again when a token names another key."""

import asyncio
import json
import ssl
import time
from typing import Any

import aiohttp
import jwt

from services.kit.errors import Refusal
from services.kit.logs import get_logger

_FETCH_TIMEOUT_S = 5.0
_LARGEST_BYTES = 256 * 1024
# At most one fetch in this time for keys that are not known, so that forged tokens cannot make us a nuisance.
_COOL_DOWN_S = 5.0
# Until the first fetch succeeds nobody can be let in, so it is tried more often.
_FIRST_COOL_DOWN_S = 0.5
_USABLE = frozenset({"RS256", "ES256", "EdDSA"})

_log = get_logger("jwks")


class KeySet:
    """The keys behind one JWKS URL. One that the issuer withdrew is forgotten after `fresh_s` seconds.

    They are fetched again in half that time, which makes nobody wait while calls come in. An issuer that does
    not answer takes no key away.
    """

    def __init__(self, url: str, fresh_s: float, context: ssl.SSLContext | None = None) -> None:
        """`context` is what an https URL is read with, in place of the machine's CAs."""
        self._url = url
        self._context = context
        self._fresh_s = fresh_s
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._failed = True
        self._fetching: asyncio.Task[None] | None = None

    async def key_of(self, kid: str | None) -> jwt.PyJWK:
        """The key of this id, or the only key for a token that names none.

        Raises jwt.InvalidKeyError if the issuer has no such key, Refusal UNAVAILABLE if it did not answer.
        """
        key = self._known(kid)
        now = time.monotonic()
        if key is not None and self._loaded_at is not None:
            age_s = now - self._loaded_at
            if age_s > self._fresh_s / 2 and self._may_try(now):
                self._refresh()
            # Only who comes after a long silence waits; if the issuer failed to answer, nobody does.
            if age_s <= self._fresh_s or self._failed:
                return key
        elif self._fetching is None and self._may_try(now):
            self._refresh()
        if self._fetching is not None:
            # Everyone waits for the same fetch, and who stops waiting does not stop it.
            await asyncio.shield(self._fetching)
        key = self._known(kid)
        if key is None and self._failed:
            raise Refusal("UNAVAILABLE", "The issuer's keys cannot be read now.")
        if key is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        return key

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _may_try(self, now: float) -> bool:
        cool_down = _FIRST_COOL_DOWN_S if self._loaded_at is None else _COOL_DOWN_S
        return self._fetching is None and (self._tried_at is None or now - self._tried_at >= cool_down)

    def _refresh(self) -> None:
        self._tried_at = time.monotonic()
        self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=_FETCH_TIMEOUT_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url, allow_redirects=False, ssl=self._context or True) as response,
            ):
                response.raise_for_status()
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _LARGEST_BYTES:
                        raise ValueError("the answer is too long")
            self._keys = _parsed(json.loads(body))
            self._loaded_at = time.monotonic()
            self._failed = False
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            self._failed = True
            _log.warning(
                "the issuer's keys cannot be read", url=self._url, problem=str(error) or type(error).__name__
            )
        finally:
            self._fetching = None


def _parsed(document: Any) -> dict[str | None, jwt.PyJWK]:
    """The keys that tokens may be signed with; others, symmetric ones above all, are passed over."""
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in document["keys"]:
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in _USABLE and entry.get("use", "sig") == "sig":
            keys[key.key_id] = key
    return keys
