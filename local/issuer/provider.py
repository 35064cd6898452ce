"""The OpenID provider: Authlib's authorization server with our clients, grants and keys."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiohttp import web
from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientCredentialsGrant,
    InvalidRequestError,
    OAuth2Payload,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from joserfc.jwk import RSAKey
from multidict import MultiMapping

from local.issuer.clients import Client
from local.issuer.sign_ins import Code, SignIn, SignIns
from local.issuer.tokens import DEFAULT_TTL_S, Minter

PUBLIC_CLIENTS = ["none"]
SECRET_CLIENTS = ["client_secret_basic", "client_secret_post"]


@dataclass(frozen=True)
class Asked:
    """What the library has to know of an HTTP request."""

    method: str
    headers: Mapping[str, str]
    fields: MultiMapping[str]
    """Of the query or of the form, never of both."""


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, fields: MultiMapping[str]) -> None:
        self._fields = fields

    @property
    def data(self) -> MultiMapping[str]:
        return self._fields

    @cached_property
    def datalist(self) -> defaultdict[str, list[str]]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self._fields.items():
            values[name].append(value)
        return values


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, asked: Asked) -> None:
        # Whether the transport is secure is for whoever stands in front to judge; on one machine, nobody.
        super().__init__(asked.method, "https://issuer", headers=asked.headers)
        self.payload = _Payload(asked.fields)
        self._fields = asked.fields

    @property
    def args(self) -> MultiMapping[str]:
        return self._fields

    @property
    def form(self) -> MultiMapping[str]:
        return self._fields


class Provider(AuthorizationServer):  # type: ignore[misc]
    """Answers the authorization and the token endpoint."""

    def __init__(self, minter: Minter, clients: Mapping[str, Client]) -> None:
        super().__init__()
        self.minter = minter
        self.clients = clients
        self.sign_ins = SignIns()
        self.register_token_generator(
            "default", BearerTokenGenerator(self._access_token, _refresh_token, lambda *_: DEFAULT_TTL_S)
        )
        self.register_grant(_CodeGrant, [_Challenge(required=True), _IdToken(minter, self.sign_ins)])
        self.register_grant(_RefreshGrant)
        self.register_grant(_ClientGrant)

    def query_client(self, client_id: str) -> Client | None:
        """The registered client of this id."""
        return self.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Access tokens are self-contained, and a refresh token is remembered as it is made."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: Asked) -> OAuth2Request:
        """The request as the library sees it."""
        return _Request(request)

    def handle_response(
        self, status: int, body: Mapping[str, object] | str, headers: list[tuple[str, str]]
    ) -> web.Response:
        """The library's answer as ours."""
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, body=text.encode(), headers=dict(headers))

    def _access_token(self, *, client: Client, user: SignIn | None, scope: str, **_: object) -> str:
        roles = [each for each in scope.split() if each in client.roles]
        subject = client.id if user is None else user.subject
        return self.minter.mint(subject, roles=roles, namespace=client.namespace, ttl_s=DEFAULT_TTL_S)


def _refresh_token(*, user: SignIn, **_: object) -> str:
    return user.next_refresh_token()


class _CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC_CLIENTS
    server: Provider

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        fields = request.payload.data
        self.server.sign_ins.add_code(
            Code(
                code=code,
                client=request.client,
                redirect_uri=request.payload.redirect_uri,
                scope=request.scope,
                subject=request.user,
                nonce=fields.get("nonce"),
                code_challenge=fields["code_challenge"],
                code_challenge_method=fields["code_challenge_method"],
            )
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        return self.server.sign_ins.code(code, client)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It is spent, but remembered, to know it if it comes again."""

    def authenticate_user(self, authorization_code: Code) -> SignIn:
        return self.server.sign_ins.begin(authorization_code)


class _RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = PUBLIC_CLIENTS
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: Provider

    def authenticate_refresh_token(self, refresh_token: str) -> SignIn | None:
        return self.server.sign_ins.of_refresh_token(refresh_token)

    def authenticate_user(self, refresh_token: SignIn) -> SignIn:
        return refresh_token

    def revoke_old_credential(self, refresh_token: SignIn) -> None:
        """The new refresh token took its place."""


class _ClientGrant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = SECRET_CLIENTS


class _Challenge(CodeChallenge):  # type: ignore[misc]
    """PKCE with S256 for everybody: a challenge that is the verifier itself protects nobody."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        super().validate_code_challenge(grant, redirect_uri)
        if grant.request.payload.data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE is needed: code_challenge, and code_challenge_method=S256")


class _IdToken(OpenIDCode):  # type: ignore[misc]
    """Adds the ID token, which tells the client who signed in."""

    def __init__(self, minter: Minter, sign_ins: SignIns) -> None:
        super().__init__()
        self._minter = minter
        self._sign_ins = sign_ins

    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:
        return self._sign_ins.seen_nonce(nonce)

    def resolve_client_private_key(self, client: Client) -> RSAKey:
        return RSAKey.import_key(self._minter.ring.signing.pem)

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        return {"iss": self._minter.issuer, "aud": [client.id], "azp": client.id}

    def get_encode_header(self, client: Client) -> dict[str, str]:
        return {"alg": "RS256", "kid": self._minter.key_id}

    def generate_user_info(self, user: SignIn, scope: str) -> UserInfo:
        info = UserInfo(sub=user.subject)
        if "profile" in scope.split():
            info["name"] = info["preferred_username"] = user.subject
        return info
