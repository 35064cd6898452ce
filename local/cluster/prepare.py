"""Prepares the stores for this version: `python -m local.cluster.prepare`, a job of the chart.

Streams, buckets, tables and the rights of Postgres' users, made by their owner, so that no service needs a
right to make any. The services wait until it is done; doing it again changes nothing.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from local.prepare import GRANTS, prepare_streams, prepare_tables
from services.kit import logs, tls
from services.kit.settings import REQUIRED, SettingError, exit_for, load_or_exit, setting, variable_of

NAME = "prepare"
PAUSE_S = 2.0

_log = logs.get_logger(NAME)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The owner's way to the stores, and whom it gives rights."""

    nats_url: str = setting(REQUIRED, "URL of NATS with the owner's user and password.", secret=True)
    nats_ca_file: Path | None = setting(None, "PEM file with the CAs of NATS' certificate.")
    stream_replicas: int = setting(
        1, "Servers that keep each stream; 3 in a cluster that shall survive one.", minimum=1, maximum=5
    )
    postgres_url: str = setting(REQUIRED, "URL of Postgres with the owner's user and password.", secret=True)
    postgres_ca_file: Path | None = setting(None, "PEM file with the CAs of Postgres' certificate.")
    checkout_url: str = setting(
        REQUIRED,
        "Checkout's URL of Postgres: a user named `checkout` is made with this password and given its "
        "rights; any other is left alone, as it is somebody else's to manage.",
        secret=True,
    )
    prepare_within_s: float = setting(
        600.0, "Seconds that the stores may take to answer: new ones have to start first.", minimum=1
    )

    # It runs before there are certificates, and shows none.
    tls_cert_file = tls_key_file = tls_ca_file = None
    tls_client_cert_required = False


async def prepare(settings: Settings) -> None:
    """Make everything. Raises SettingError for what waiting does not mend, TimeoutError for the rest."""
    nats = tls.to_nats(settings)  # type: ignore[arg-type]  # has the fields that are read
    postgres = tls.to_postgres(settings)
    async with asyncio.timeout(settings.prepare_within_s):
        await prepare_streams(settings.nats_url, nats, replicas=settings.stream_replicas)
        _log.info("streams_prepared", replicas=settings.stream_replicas)
        while True:
            try:
                await prepare_tables(settings.postgres_url, passwords(settings.checkout_url), postgres)
                break
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as problem:
                why = tls.distrust(problem)
                if why is not None:
                    raise tls.distrusted("postgres_url", "postgres_ca_file", why) from None
                _log.warning("database_waits", problem=repr(problem))
            except asyncpg.InvalidAuthorizationSpecificationError:
                expected = "a user and password that may use it"
                raise SettingError(variable_of("postgres_url"), "refused by its Postgres", expected) from None
            await asyncio.sleep(PAUSE_S)
        _log.info("tables_prepared")


def passwords(checkout_url: str) -> dict[str, str]:
    """The users that are made, with their passwords: checkout's, where the URL names it so."""
    parts = urlsplit(checkout_url)
    user = parts.username or ""
    return {user: unquote(parts.password or "")} if user in GRANTS else {}


def main() -> None:
    """Prepare and end; what fails ends it with an error, and Kubernetes runs it again."""
    settings = load_or_exit(Settings)
    logs.configure(NAME)
    try:
        asyncio.run(prepare(settings))
    except SettingError as error:
        exit_for(error)


if __name__ == "__main__":
    main()
