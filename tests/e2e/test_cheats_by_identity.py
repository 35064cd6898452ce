"""Cheats with tokens, roles and names: refused by name, counted, and nothing has changed."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sales
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import Message

from local.client import DEADLINE_S, Buyer, answered, bearer, streamed
from local.issuer.tokens import AUDIENCE, Minter
from tests.e2e.cheating import AWAITING, ONE, cheating

# ---- tokens ----


def part_of(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def signed_by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """A token with an HMAC, which no library would make with a public key."""
    body = f"{part_of(header)}.{part_of(claims)}"
    mac = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def bad_tokens(house: Any, folder: Path) -> dict[str, str]:
    """Tokens that say they are the victim's, each wrong in its own way."""
    minter: Minter = house.minter
    key, kid = minter.ring.signing.private, {"kid": minter.key_id}
    now = int(time.time())
    claims = {
        "iss": minter.issuer, "aud": AUDIENCE, "sub": "victim", "ns": "public", "roles": ["buyer"],
        "iat": now, "exp": now + 600,
    }  # fmt: skip

    def signed(**changes: Any) -> str:
        return jwt.encode(claims | changes, key, algorithm="RS256", headers=kid)

    def without(name: str) -> str:
        left = {each: value for each, value in claims.items() if each != name}
        return jwt.encode(left, key, algorithm="RS256", headers=kid)

    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = minter.mint("somebody").split(".")
    own = Minter(folder / "own.json", minter.issuer)
    own_jwk = own.ring.jwks()["keys"][0]
    jwk_within = jwt.encode(
        claims, own.ring.signing.private, algorithm="RS256", headers=kid | {"jwk": own_jwk}
    )
    return {
        "for another audience": signed(aud="another"),
        "of another issuer": signed(iss="http://evil.example"),
        "not good yet": signed(nbf=now + 600),
        "roles as text": signed(roles="buyer"),
        "a subject that is none": signed(sub="ana\nbia"),
        "a namespace that is none": signed(ns=""),
        "without an end": without("exp"),
        "without a subject": without("sub"),
        "without an audience": without("aud"),
        "alg none": jwt.encode(claims, "", algorithm="none", headers=kid),
        "HMAC with the public key as PEM": signed_by_hand({"alg": "HS256", "typ": "JWT"} | kid, claims, pem),
        "HMAC with the public key as DER": signed_by_hand({"alg": "HS256", "typ": "JWT"} | kid, claims, der),
        "HMAC without a secret": signed_by_hand({"alg": "HS256", "typ": "JWT"} | kid, claims, b""),
        "other claims, same signature": f"{head}.{part_of(claims)}.{signature}",
        "no signature": f"{head}.{body}.",
        "a key of one's own": own.mint("victim"),
        "a key of one's own under the issuer's id": jwt.encode(
            claims, own.ring.signing.private, algorithm="RS256", headers=kid
        ),
        "a key of one's own in the header": jwk_within,
        "an admission": "k1.AAAA",
        "nothing": "",
    }


def at_every_service(house: Any, name: str, token: str) -> list[Awaitable[Any]]:
    """A call to each service, as whoever the token says."""
    buyer = Buyer(house.at, name, token)
    return [
        buyer.join(),
        buyer.hold("my-hold-1", ONE),
        buyer.order("click-one", ONE),
        anext(buyer.subscribe()),
    ]


async def test_a_token_that_the_issuer_did_not_sign_is_refused(house: Any, tmp_path: Path) -> None:
    name = await house.sale(opens_in_s=3000)
    async with cheating(house, name) as tries:
        for how, token in bad_tokens(house, tmp_path).items():
            for call in at_every_service(house, name, token):
                await tries.refused("TOKEN_INVALID", call, how)


async def test_an_expired_token_is_refused(house: Any) -> None:
    name = await house.sale(opens_in_s=3000)
    async with cheating(house, name) as tries:
        for call in at_every_service(house, name, house.minter.mint("somebody", ttl_s=-5)):
            await tries.refused("TOKEN_EXPIRED", call)


# ---- speaking for others ----


async def test_a_bff_speaks_for_its_own_namespace_only(house: Any) -> None:
    name = await house.sale()
    ana = house.buyer(name, "ana", namespace="public")
    admission = (await house.admitted(ana)).token
    await ana.hold("anas-hold", ONE, admission)
    placed = await ana.order("click-one", ONE, admission=admission)
    await house.told(ana, placed.order_id, AWAITING)
    bff = house.minter.mint("front", roles=["bff"], namespace="shop")
    posing = Buyer(house.at, name, bff, subject="ana")
    async with cheating(house, name) as tries:
        await tries.refused("NOT_IN_LINE", posing.place())
        await tries.refused("NOT_IN_LINE", posing.leave())
        await tries.refused("ADMISSION_FOREIGN", posing.hold("my-hold-1", ONE, admission))
        await tries.refused("HOLD_NOT_FOUND", posing.release("anas-hold"))
        await tries.refused("ORDER_NOT_FOUND", posing.get_order(placed.order_id))
        await tries.refused("ORDER_NOT_FOUND", posing.cancel(placed.order_id))
        for subject in ("public\0ana", "\0ana", "ana\n", ""):
            await tries.refused("INVALID_FIELD", joined_for(house, name, bff, subject), subject)
    # Whatever a subject looks like, it stays within the namespace of the BFF's token.
    for number, subject in enumerate(("ana", "public/ana", "public:ana"), 1):
        assert (await joined_for(house, name, bff, subject)).place.index == number


async def joined_for(house: Any, sale: str, token: str, subject: str) -> queue.PlaceResult:
    """What a BFF's batch says of one subject."""
    request = queue.JoinManyRequest(sale=sale, items=[queue.JoinItem(subject=subject)])
    call = house.at.queue.JoinMany(iter([request]), metadata=bearer(token))
    (answer,) = [each async for each in streamed(call)]
    return answer.results[0]


async def test_nobody_but_a_bff_names_another_buyer_and_it_must(house: Any) -> None:
    name = await house.sale(opens_in_s=3000)
    ana = house.buyer(name, "ana")
    await ana.join()
    posing = Buyer(house.at, name, house.minter.mint("mallory"), subject="ana")
    nobody = Buyer(house.at, name, house.minter.mint("front", roles=["bff"], namespace="shop"))
    async with cheating(house, name) as tries:
        for buyer in (posing, nobody):
            for call in (
                buyer.join(),
                buyer.leave(),
                buyer.hold("my-hold-1", ONE),
                buyer.order("click-one", ONE),
            ):
                await tries.refused("NOT_YOUR_BUYER", call)


# ---- roles ----


async def sent(method: Any, request: Message, token: str) -> Any:
    return await answered(method(request, metadata=bearer(token)))


async def opened(method: Any, token: str) -> Any:
    """The first answer of a stream, which is refused before anything is said on it."""
    return await answered(method(metadata=bearer(token), timeout=DEADLINE_S).read())


Call = Callable[[], Awaitable[Any]]


def calls_by_role(house: Any, name: str, token: str) -> dict[str, tuple[set[str], Call]]:
    """Calls that not everybody may make, with who may."""
    commit = inventory.Command(
        commit=inventory.CommitCommand(hold_id="h" * 8, buyer="a" * 26, order_id="b" * 26)
    )
    at = house.at
    return {
        "apply": (
            {"service"},
            lambda: sent(at.ledger.Apply, inventory.ApplyRequest(sale=name, commands=[commit]), token),
        ),
        "drop": ({"service"}, lambda: sent(at.ledger.Drop, inventory.DropRequest(sale=name), token)),
        "count": (
            {"service", "organiser"},
            lambda: sent(at.settlement.CountOrders, checkout.CountOrdersRequest(sale=name), token),
        ),
        "define": ({"organiser"}, lambda: sent(at.sales.Define, sales.DefineRequest(sale=name), token)),
        "pause": (
            {"organiser"},
            lambda: sent(at.sales.Pause, sales.PauseRequest(sale=name, paused=True), token),
        ),
        "archive": ({"organiser"}, lambda: sent(at.sales.Archive, sales.ArchiveRequest(sale=name), token)),
        "join many": ({"bff"}, lambda: opened(at.queue.JoinMany, token)),
        "enter many": ({"bff"}, lambda: opened(at.queue.EnterMany, token)),
        "places": (
            {"bff"},
            lambda: sent(at.queue.GetPlaces, queue.GetPlacesRequest(sale=name, subjects=["ana"]), token),
        ),
        "order many": ({"bff"}, lambda: opened(at.orders.PlaceOrders, token)),
        "hear of many": ({"bff"}, lambda: opened(at.notifier.SubscribeMany, token)),
    }


@pytest.mark.parametrize("role", ["buyer", "organiser", "staff", "bff", "service", "Organiser", "admin"])
async def test_a_role_is_good_for_its_own_methods_only(house: Any, role: str) -> None:
    name = await house.sale(opens_in_s=3000)
    token = house.minter.mint("somebody", roles=[role])
    buyer = Buyer(house.at, name, token)
    async with cheating(house, name) as tries:
        for what, (allowed, call) in calls_by_role(house, name, token).items():
            if role not in allowed:
                await tries.refused("ROLE_REQUIRED", call(), what)
        if role != "buyer":
            # A BFF may, for a buyer whom it names.
            word = "NOT_YOUR_BUYER" if role == "bff" else "ROLE_REQUIRED"
            for call in (buyer.join(), buyer.hold("my-hold-1", ONE), buyer.order("click-one", ONE)):
                await tries.refused(word, call)


# ---- sales ----


async def test_an_organiser_cannot_sell_below_nothing(house: Any) -> None:
    name = await house.sale(opens_in_s=3000)
    spec = (await house.organiser.sale(name)).spec
    async with cheating(house, name) as tries:
        for price in (-1, -(2**40)):
            cheap = sales.SaleSpec()
            cheap.CopyFrom(spec)
            cheap.sections[0].ticket_types[0].price = price
            await tries.refused("DEFINITION_INVALID", house.organiser.define(name, cheap), price)
