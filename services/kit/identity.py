"""Who calls: bearer JWTs verified and remembered for a bounded time, and the buyer a call speaks for."""

import hashlib
import ssl
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jwt
from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, Sale

from services.kit.buyers import buyer_raw, to_text
from services.kit.errors import Refusal
from services.kit.jwks import KeySet
from services.kit.keys import Ring, SymmetricKey
from services.kit.logs import get_logger

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
BUYER_METADATA = "catraca-buyer"
DEFAULT_NAMESPACE = "public"
MAX_SUBJECT_BYTES = 256

_BEARER = "bearer "
_LONGEST_TOKEN = 8 * 1024

Metadata = Sequence[tuple[str, str | bytes]]

_log = get_logger("identity")


Person = tuple[str, str]
"""Namespace and subject: who somebody is, whatever the sale."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """Someone who stands in line: the subject within a namespace. Their internal id is each sale's own."""

    namespace: str
    subject: str
    keys: Ring = field(repr=False)

    @property
    def person(self) -> Person:
        """The same for every sale."""
        return self.namespace, self.subject

    def id_in(self, sale: Sale) -> str:
        """The internal id in this sale, 26 characters. Raises as `buyer_key` does."""
        return to_text(self.raw_in(sale))

    def raw_in(self, sale: Sale) -> bytes:
        """The same as 16 bytes."""
        return self.raw_with(buyer_key(self.keys, sale))

    def raw_with(self, key: SymmetricKey) -> bytes:
        """The same, by the sale's key from `buyer_key`."""
        return buyer_raw(key, self.namespace, self.subject)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `buyer` is the subject a BFF speaks for in this call, from its `catraca-buyer` metadata."""

    namespace: str
    subject: str
    roles: frozenset[str]
    buyer: str | None
    keys: Ring = field(repr=False)

    def need(self, *roles: str) -> None:
        """Raises Refusal ROLE_REQUIRED unless the caller has one of the roles."""
        if self.roles.isdisjoint(roles):
            raise Refusal("ROLE_REQUIRED", needs=" or ".join(roles))


_current: ContextVar[Caller] = ContextVar("caller")


def caller(_context: object) -> Caller:
    """Who makes this call. Methods that are declared public have no caller."""
    return _current.get()


def set_caller(who: Caller) -> None:
    """Names the caller of the call that this task serves."""
    _current.set(who)


def buyer_of(context: object) -> Buyer:
    """The buyer this call is about: the caller, or whom a BFF names.

    Raises Refusal NOT_YOUR_BUYER, ROLE_REQUIRED, or INVALID_FIELD for a subject that cannot be one.
    """
    who = caller(context)
    if "bff" in who.roles:
        if who.buyer is None:
            raise Refusal("NOT_YOUR_BUYER", f"A BFF names its buyer in the {BUYER_METADATA} metadata.")
        return _buyer(who, who.buyer, BUYER_METADATA)
    who.need("buyer")
    if who.buyer is not None and who.buyer != who.subject:
        raise Refusal("NOT_YOUR_BUYER")
    return _buyer(who, who.subject, "sub")


def buyer_for(who: Caller, subject: str) -> Buyer:
    """The buyer of one item in a batch of a BFF.

    Raises Refusal ROLE_REQUIRED, or INVALID_FIELD for a subject that cannot be one.
    """
    who.need("bff")
    return _buyer(who, subject, "subject")


def raw_buyer_for(who: Caller, subject: str, key: SymmetricKey) -> bytes:
    """As `buyer_for`, but only the internal id, as 16 bytes: what a batch of a thousand can afford.

    `key` is the sale's, from `buyer_key`.
    """
    who.need("bff")
    _check(subject, "subject")
    return buyer_raw(key, who.namespace, subject)


def buyer_key(keys: Ring, sale: Sale) -> SymmetricKey:
    """The key that a sale's buyers are hashed with, which it has been bound to since it was defined.

    Raises Refusal SALE_ARCHIVED where the key went after the sale, and UNAVAILABLE where it has not come yet.
    """
    if not sale.buyer_key_id:
        # Defined before sales were bound: there was one key then, and no sale of that time lets go of it.
        return keys.oldest
    key = keys.get(sale.buyer_key_id)
    if key is not None:
        return key
    if sale.phase == SALE_PHASE_ARCHIVED:
        raise Refusal("SALE_ARCHIVED", sale=sale.sale)
    _log.error("buyer_key_missing", sale=sale.sale, key=sale.buyer_key_id)
    raise Refusal("UNAVAILABLE", "This replica does not have the sale's key yet.")


def _buyer(who: Caller, subject: str, source: str) -> Buyer:
    _check(subject, source)
    return Buyer(who.namespace, subject, who.keys)


def _check(subject: str, source: str) -> None:
    if not sound_subject(subject):
        expected = f"1 to {MAX_SUBJECT_BYTES} bytes of printable text"
        raise Refusal("INVALID_FIELD", field=source, expected=expected)


def sound_subject(subject: str) -> bool:
    """Whether this text may name someone: not empty, not too long, nothing invisible in it."""
    return 0 < len(subject.encode()) <= MAX_SUBJECT_BYTES and subject.isprintable()


def _token(said: Mapping[str, str | bytes]) -> str:
    """The bearer token of a call's metadata. Raises Refusal TOKEN_INVALID where there is none."""
    authorization = said.get("authorization")
    if not isinstance(authorization, str) or authorization[: len(_BEARER)].lower() != _BEARER:
        raise Refusal("TOKEN_INVALID", "A bearer token is needed.")
    token = authorization[len(_BEARER) :].strip()
    if len(token) > _LONGEST_TOKEN:
        raise Refusal("TOKEN_INVALID", "The bearer token is too long.")
    return token


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(), digest_size=16).digest()


def _speaking_for(who: Caller, said: Mapping[str, str | bytes]) -> Caller:
    """The caller with the buyer that this call names."""
    buyer = said.get(BUYER_METADATA)
    if isinstance(buyer, str):
        return Caller(who.namespace, who.subject, who.roles, buyer, who.keys)
    return who


class Verifier:
    """Verifies bearer tokens of one issuer and remembers them for a while.

    A token that is remembered costs a hash and a look-up; one that is not, a signature check. A digest of
    each is kept, and at most so many.
    """

    def __init__(
        self,
        jwks_url: str,
        issuer: str,
        audience: str,
        keys: Ring,
        *,
        fresh_s: float,
        remember_s: float,
        remember_most: int,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`keys` are what buyers' ids are made with; a Caller carries them. The bounds are settings.

        `context` is what an https URL is read with.
        """
        self._key_set = KeySet(jwks_url, fresh_s, context)
        self._remember_s = remember_s
        self._remember_most = remember_most
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._remembered: dict[bytes, tuple[Caller, float, float]] = {}

    async def verify(self, metadata: Metadata) -> Caller:
        """Who calls with this metadata. Raises Refusal TOKEN_INVALID, TOKEN_EXPIRED, UNAVAILABLE."""
        known = self.remembered(metadata)
        if known is not None:
            return known
        said = dict(metadata)
        token = _token(said)
        claims = await self._claims(token)
        who = self._caller_of(claims)
        if len(self._remembered) >= self._remember_most:
            del self._remembered[next(iter(self._remembered))]
        kept = (who, float(claims["exp"]), time.monotonic() + self._remember_s)
        self._remembered[_digest(token)] = kept
        return _speaking_for(who, said)

    def remembered(self, metadata: Metadata) -> Caller | None:
        """As `verify` without waiting, where the token was verified lately; else None. Raises as `verify`."""
        said = dict(metadata)
        digest = _digest(_token(said))
        known = self._remembered.get(digest)
        if known is None:
            return None
        who, expires_at, forget_at = known
        if time.time() >= expires_at:
            raise Refusal("TOKEN_EXPIRED")
        if time.monotonic() >= forget_at:
            del self._remembered[digest]
            return None
        return _speaking_for(who, said)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        try:
            key = await self._key_set.key_of(jwt.get_unverified_header(token).get("kid"))
            return jwt.decode(
                token,
                key=key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                # A clock that runs ahead at the issuer makes no token worse; only its end counts.
                options={"require": ["exp", "iss", "aud", "sub"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError:
            raise Refusal("TOKEN_EXPIRED") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Refusal("TOKEN_INVALID", "The bearer token does not verify.") from None

    def _caller_of(self, claims: Mapping[str, Any]) -> Caller:
        subject, namespace = claims["sub"], claims.get("ns", DEFAULT_NAMESPACE)
        roles = claims.get("roles", [])
        sound = (
            isinstance(subject, str)
            and isinstance(namespace, str)
            and sound_subject(subject)
            and sound_subject(namespace)
            and isinstance(roles, list)
            and all(isinstance(role, str) for role in roles)
        )
        if not sound:
            raise Refusal("TOKEN_INVALID", "The bearer token's claims do not have the shape they must have.")
        return Caller(namespace, subject, frozenset(roles), None, self._keys)
