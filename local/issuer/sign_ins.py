"""What the provider remembers of people who signed in: codes for a minute, refresh tokens for a week.

All of it is in memory: this is the issuer of one machine, and whoever restarts it signs in again.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass, field

from authlib.oauth2.rfc6749 import TokenMixin
from authlib.oidc.core import AuthorizationCodeMixin

from local.issuer.clients import Client

CODE_TTL_S = 60.0
SIGN_IN_TTL_S = 7 * 24 * 3600.0
MOST = 10_000
"""Codes, and people signed in, that are remembered; the oldest make room."""


@dataclass
class SignIn(TokenMixin):  # type: ignore[misc]
    """Somebody who signed in at a client, and the digest of the one refresh token that is good now."""

    client: Client
    subject: str
    scope: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    ends_at: float = field(default_factory=lambda: time.time() + SIGN_IN_TTL_S)
    digest: bytes = b""

    def next_refresh_token(self) -> str:
        """A new refresh token; the one before is good no more."""
        token = f"{self.id}.{secrets.token_urlsafe(32)}"
        self.digest = _digest(token)
        return token

    def check_client(self, client: Client) -> bool:
        """Whether the token was given to this client."""
        return client.id == self.client.id

    def get_scope(self) -> str:
        """What was granted at the beginning."""
        return self.scope


@dataclass
class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """A code that a browser carries to its client, good once."""

    code: str
    client: Client
    redirect_uri: str
    scope: str
    subject: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    auth_time: int = field(default_factory=lambda: int(time.time()))
    spent_by: SignIn | None = None
    """Who got tokens for it, if anybody did."""

    def get_redirect_uri(self) -> str:
        """As the library asks."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """As the library asks."""
        return self.scope

    def get_nonce(self) -> str | None:
        """As the library asks."""
        return self.nonce

    def get_auth_time(self) -> int:
        """As the library asks."""
        return self.auth_time

    def get_acr(self) -> None:
        """Nobody's word is checked here."""

    def get_amr(self) -> None:
        """Nobody's word is checked here."""


class SignIns:
    """The codes and the people signed in."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self._people: dict[str, SignIn] = {}

    def add_code(self, code: Code) -> None:
        """Remember a code for its minute."""
        _make_room(self._codes)
        self._codes[code.code] = code

    def code(self, text: str, client: Client) -> Code | None:
        """The code, if it is this client's and neither old nor spent. If spent, the sign-in it gave ends."""
        code = self._codes.get(text)
        if code is None or code.client.id != client.id:
            return None
        if code.spent_by is not None:
            self._people.pop(code.spent_by.id, None)
            return None
        return code if time.time() - code.auth_time < CODE_TTL_S else None

    def seen_nonce(self, nonce: str) -> bool:
        """Whether a code was asked for with it lately."""
        return any(code.nonce == nonce for code in self._codes.values())

    def begin(self, code: Code) -> SignIn:
        """Spend a code: somebody is signed in."""
        _make_room(self._people)
        code.spent_by = SignIn(code.client, code.subject, code.scope)
        self._people[code.spent_by.id] = code.spent_by
        return code.spent_by

    def of_refresh_token(self, token: str) -> SignIn | None:
        """Whose token this is. One that was used before has two owners, so the sign-in ends."""
        who = self._people.get(token.partition(".")[0])
        if who is None:
            return None
        if time.time() >= who.ends_at or not secrets.compare_digest(who.digest, _digest(token)):
            del self._people[who.id]
            return None
        return who


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(), digest_size=16).digest()


def _make_room(remembered: dict[str, Code] | dict[str, SignIn]) -> None:
    while len(remembered) >= MOST:
        del remembered[next(iter(remembered))]
