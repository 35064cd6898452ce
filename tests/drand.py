"""A drand chain of our own, and relays that speak drand's HTTP API; some of them lie."""

import hashlib
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyblst
from aiohttp import web
from aiohttp.test_utils import TestServer
from catraca.queue.v1.queue_pb2 import BeaconRound

from services.queue.beacon import SCHEME, chain_hash

G2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)


class Chain:
    """A chain whose one member we are."""

    def __init__(self, secret: int = 0xC0FFEE, period_s: int = 1) -> None:
        self._secret = secret
        public = pyblst.BlstP2Element().uncompress(G2).scalar_mul(secret).compress()
        self.info = BeaconRound(
            public_key=public,
            period_s=period_s,
            genesis_s=int(time.time()) - 100,
            group_hash=hashlib.sha256(b"our group").digest(),
            beacon_id="ours",
            scheme=SCHEME,
        )
        self.source = f"drand:{chain_hash(self.info)}"

    def sign(self, number: int) -> bytes:
        message = hashlib.sha256(struct.pack(">Q", number)).digest()
        dst = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
        signature: bytes = (
            pyblst.BlstP1Element.hash_to_group(message, dst).scalar_mul(self._secret).compress()
        )
        return signature


class Relay:
    """Serves a chain; it is silent, or tells another chain's rounds, while it is told to."""

    def __init__(self, chain: Chain) -> None:
        self.chain = self.tells = chain
        self.silent = False
        self.url = ""
        self.asked: list[str] = []

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        name, info = self.chain.source.removeprefix("drand:"), self.tells.info
        if self.silent or request.match_info["chain"] != name:
            raise web.HTTPNotFound
        if request.match_info["what"] == "info":
            said = {
                "public_key": info.public_key.hex(),
                "period": info.period_s,
                "genesis_time": info.genesis_s,
                "genesis_seed": info.group_hash.hex(),
                "groupHash": info.group_hash.hex(),
                "hash": name,
                "schemeID": info.scheme,
                "metadata": {"beaconID": info.beacon_id},
            }
            return web.json_response(said)
        number = int(request.match_info["what"].removeprefix("public/"))
        if time.time() < info.genesis_s + (number - 1) * info.period_s:
            raise web.HTTPNotFound
        signature = self.tells.sign(number)
        randomness = hashlib.sha256(signature).hexdigest()
        return web.json_response({"round": number, "randomness": randomness, "signature": signature.hex()})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Relay"]:
        app = web.Application()
        app.router.add_get("/{chain}/{what:info|public/[0-9]+}", self._answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/"))
            yield self
