"""Keeps the bearer tokens of services and operator fresh: `python -m local.cluster.tokens`.

An OpenID provider gives tokens that end within hours; who calls with them reads a file. This process asks for
a new one at half of a token's life and puts it into a Secret, whose files Kubernetes then replaces in every
pod, within some two minutes. So a provider may be away for nearly half of a token's life, and nobody notices.
"""

import asyncio
import contextlib
import signal
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from local.cluster.secret_store import SecretStore
from services.kit import logs, metrics
from services.kit.settings import REQUIRED, SettingError, exit_for, load_or_exit, setting

NAME = "tokens"
TOKENS = ("service", "organiser")
"""Keys of the Secret, each a token; also what the files of its client are named after."""
TIMEOUT_S = 10.0
RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
LEAST_LIFE_S = 10.0

_log = logs.get_logger(NAME)


class NoToken(Exception):
    """The provider gave none; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whom to ask, with what, and where to put it."""

    namespace: str = setting(REQUIRED, "Kubernetes namespace of the Secret.")
    tokens_secret: str = setting(REQUIRED, "The Secret that tokens are put into; it exists already.")
    token_url: str = setting(REQUIRED, "The provider's token endpoint.")
    token_ca_file: Path | None = setting(None, "PEM file with the CAs of its certificate.")
    clients_folder: Path = setting(
        REQUIRED,
        "Folder with the files service-client-id, service-client-secret, organiser-client-id and "
        "organiser-client-secret; read for every token.",
    )
    audience: str = setting("catraca", "`aud` that the tokens are for.")
    service_scope: str = setting("", "Scopes asked for with the services' token, separated by spaces.")
    organiser_scope: str = setting("", "Scopes asked for with the operator's token, separated by spaces.")
    metrics_listen: str | None = setting(
        None, "host:port of the HTTP page /healthz, which is 503 while a token is past its time for renewal."
    )

    def scope_of(self, token: str) -> str:
        """What is asked for with a token."""
        return self.service_scope if token == "service" else self.organiser_scope


@dataclass
class Keeper:
    """Asks for each token in time."""

    settings: Settings
    store: SecretStore
    http: aiohttp.ClientSession
    _ends: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0.0))

    @property
    def healthy(self) -> bool:
        """Every token is good for a while."""
        now = time.monotonic()
        return all(ends > now for ends in self._ends.values())

    async def keep(self, token: str) -> None:
        """Renew one token for ever."""
        pause = RETRY_S
        while True:
            try:
                text, life_s = await self.ask(token)
                await asyncio.to_thread(self.store.change, self.settings.tokens_secret, {token: text})
            except (NoToken, OSError, aiohttp.ClientError, TimeoutError, ApiException, HTTPError) as problem:
                _log.warning("token_not_renewed", token=token, problem=str(problem) or repr(problem))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_S)
                continue
            pause = RETRY_S
            self._ends[token] = time.monotonic() + life_s
            _log.info("token_renewed", token=token, life_s=life_s)
            await asyncio.sleep(life_s / 2)

    async def ask(self, token: str) -> tuple[str, float]:
        """A new token and its life in seconds. Raises NoToken, and what the way there raises."""
        form = {"grant_type": "client_credentials", "audience": self.settings.audience}
        if scope := self.settings.scope_of(token):
            form["scope"] = scope
        auth = aiohttp.BasicAuth(self._file(f"{token}-client-id"), self._file(f"{token}-client-secret"))
        async with self.http.post(self.settings.token_url, data=form, auth=auth) as answer:
            try:
                body = await answer.json(content_type=None)
            except ValueError:
                body = None
            return _token_in(body, answer.status)

    def _file(self, name: str) -> str:
        return (self.settings.clients_folder / name).read_text().strip()


def _token_in(body: object, status: int) -> tuple[str, float]:
    if not isinstance(body, Mapping) or not isinstance(body.get("access_token"), str):
        # Of an answer that is none only the provider's own word of error is told: a log is no place for more.
        error = body.get("error") if isinstance(body, Mapping) else None
        raise NoToken(f"the provider answered {status} {error or 'without a token'}")
    life_s = body.get("expires_in")
    if not isinstance(life_s, int | float) or life_s < LEAST_LIFE_S:
        raise NoToken(f"expires_in is {life_s!r}: a token has to live {LEAST_LIFE_S:g} s at least")
    return body["access_token"], float(life_s)


async def main(settings: Settings) -> None:
    """Keep both until told to stop."""
    ca = settings.token_ca_file
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=timeout, trust_env=True
    ) as http:
        keeper = Keeper(settings, SecretStore(settings.namespace), http)
        async with metrics.listening(settings, lambda: keeper.healthy):
            keeping = asyncio.gather(*(keeper.keep(token) for token in TOKENS))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, keeping.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await keeping


if __name__ == "__main__":
    chosen = load_or_exit(Settings)
    logs.configure(NAME)
    try:
        asyncio.run(main(chosen))
    except SettingError as error:
        exit_for(error)
