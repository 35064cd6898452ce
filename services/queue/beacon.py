"""The public randomness that a draw may take in: rounds of drand, believed by their signatures alone.

A chain is named by its hash, which is over its public key, so that no relay need be trusted: docs/draw.md.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import pyblst
from catraca.queue.v1.queue_pb2 import BeaconRound

from services.kit.errors import Refusal
from services.kit.logs import get_logger

SOURCE = re.compile(r"drand:([0-9a-f]{64})")
SCHEME = "bls-unchained-g1-rfc9380"
VALUE_BYTES = 32
TIMEOUT_S = 3.0
LARGEST_BYTES = 64 * 1024
_HASH_TO_G1 = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_G2_GENERATOR = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)

log = get_logger("beacon")


class Untrue(Exception):
    """A relay's answer is not of the chain, or not what was asked for."""


_NO_ANSWER = (
    aiohttp.ClientError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    Untrue,
)


def value_of(found: BeaconRound) -> bytes:
    """What the draw takes in of a round: 32 bytes."""
    return hashlib.sha256(found.signature).digest()


def first_after(chain: BeaconRound, at_ms: int) -> tuple[int, int]:
    """The first round that is due after a moment, and when that is, in milliseconds since 1970."""
    period_ms, genesis_ms = chain.period_s * 1000, chain.genesis_s * 1000
    steps = max(0, (at_ms - genesis_ms) // period_ms + 1)
    return steps + 1, genesis_ms + steps * period_ms


def chain_hash(chain: BeaconRound) -> str:
    """The hash by which a chain is named, hexadecimal."""
    name = b"" if chain.beacon_id in ("", "default") else chain.beacon_id.encode()
    numbers = struct.pack(">Iq", chain.period_s, chain.genesis_s)
    return hashlib.sha256(numbers + chain.public_key + chain.group_hash + name).hexdigest()


def is_signed(found: BeaconRound) -> bool:
    """Whether the chain signed this round: BLS, signatures in G1, keys in G2, hashed as RFC 9380 says."""
    try:
        signature = pyblst.BlstP1Element().uncompress(found.signature)
        key = pyblst.BlstP2Element().uncompress(found.public_key)
    except ValueError:
        return False
    one = pyblst.BlstP2Element().uncompress(_G2_GENERATOR)
    message = hashlib.sha256(struct.pack(">Q", found.round)).digest()
    point = pyblst.BlstP1Element.hash_to_group(message, _HASH_TO_G1)
    return bool(pyblst.final_verify(pyblst.miller_loop(signature, one), pyblst.miller_loop(point, key)))


class Drand:
    """Reads rounds over drand's HTTP API, from the first relay whose answer is true."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are relays, without the chain; nothing is read before it is asked for."""
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._chains: dict[str, BeaconRound] = {}

    async def round_after(self, source: str, at_ms: int, now_ms: int) -> BeaconRound | float:
        """The first round that is due after `at_ms`; the seconds to wait for it where it is not due yet.

        Raises Refusal UNAVAILABLE where no relay has a true answer.
        """
        named = SOURCE.fullmatch(source)
        if named is None:
            raise ValueError(f"{source} names no chain")
        chain = await self._chain(named[1])
        number, due_ms = first_after(chain, at_ms)
        if due_ms > now_ms:
            return (due_ms - now_ms) / 1000
        return await self._first_true(f"{named[1]}/public/{number}", lambda said: _round(said, chain, number))

    async def _chain(self, name: str) -> BeaconRound:
        if name not in self._chains:
            self._chains[name] = await self._first_true(f"{name}/info", lambda said: _chain(said, name))
        return self._chains[name]

    async def _first_true(self, path: str, read: Callable[[dict[str, Any]], BeaconRound]) -> BeaconRound:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for url in self._urls:
                try:
                    return read(await _said(session, f"{url}/{path}"))
                except _NO_ANSWER as error:
                    problem = str(error) or type(error).__name__
                    log.warning("beacon_waits", url=url, path=path, problem=problem)
        raise Refusal("UNAVAILABLE", "No relay of the beacon has a true answer.")


async def _said(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, allow_redirects=False) as response:
        response.raise_for_status()
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > LARGEST_BYTES:
                raise Untrue("it is too long")
    said = json.loads(body)
    if not isinstance(said, dict):
        raise Untrue("it is not a JSON object")
    return said


def _chain(said: dict[str, Any], name: str) -> BeaconRound:
    chain = BeaconRound(
        public_key=bytes.fromhex(said["public_key"]),
        period_s=said["period"],
        genesis_s=said["genesis_time"],
        group_hash=bytes.fromhex(said["groupHash"]),
        beacon_id=said.get("metadata", {}).get("beaconID", ""),
        scheme=said["schemeID"],
    )
    if chain_hash(chain) != name or chain.period_s <= 0:
        raise Untrue("it tells of another chain")
    if chain.scheme != SCHEME:
        raise Untrue(f"its scheme is {chain.scheme!r}, and only {SCHEME} is known here")
    return chain


def _round(said: dict[str, Any], chain: BeaconRound, number: int) -> BeaconRound:
    found = BeaconRound()
    found.CopyFrom(chain)
    found.round = number
    found.signature = bytes.fromhex(said["signature"])
    if said["round"] != number or not is_signed(found):
        raise Untrue("the chain did not sign this round")
    return found
