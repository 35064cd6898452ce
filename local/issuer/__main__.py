"""Runs the issuer by itself: `python -m local.issuer`, configured by the environment."""

from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import web

from local.issuer.clients import registered
from local.issuer.keeper import Keeper
from local.issuer.server import application
from local.issuer.tokens import Minter
from services.kit.http import log_own_faults_only
from services.kit.settings import REQUIRED, SettingError, exit_for, load_or_exit, setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the issuer is told."""

    issuer_listen: str = setting(REQUIRED, "host:port that it listens on.")
    oidc_issuer: str = setting(REQUIRED, "`iss` of its tokens: the URL under which verifiers reach it.")
    issuer_key_file: Path = setting(
        REQUIRED, "Its RSA keys as JSON; made if missing, so that tokens outlive a restart."
    )
    issuer_key_age_s: float = setting(
        7 * 24 * 3600.0, "Seconds that a key signs before the next one takes over.", minimum=60
    )
    issuer_clients_file: Path = setting(REQUIRED, "JSON list of the registered clients.")
    issuer_secret: str = setting(
        REQUIRED, "What opens the development grant and the rotation of keys.", secret=True
    )
    service_token_file: Path = setting(
        REQUIRED, "The services' bearer token, renewed before it ends and whenever a key retires."
    )


def main() -> None:
    settings = load_or_exit(Settings)
    host, _, port = settings.issuer_listen.rpartition(":")
    if not host or not port.isdigit():
        exit_for(SettingError("CATRACA_ISSUER_LISTEN", repr(settings.issuer_listen), "host:port"))
    minter = Minter(settings.issuer_key_file, settings.oidc_issuer)
    keeper = Keeper(minter, settings.service_token_file, settings.issuer_key_age_s)
    app = application(keeper, registered(settings.issuer_clients_file), settings.issuer_secret)
    log_own_faults_only()
    web.run_app(app, host=host, port=int(port), access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
