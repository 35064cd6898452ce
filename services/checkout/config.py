"""Checkout's settings."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, CommonSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """What checkout is told beside the common settings."""

    postgres_url: str = setting(REQUIRED, "postgresql://user:password@host:port/database.", secret=True)
    postgres_ca_file: Path | None = setting(
        None, "PEM file with the CAs of Postgres' certificate; the URL then says sslmode=verify-full."
    )
    postgres_connections: int = setting(
        8,
        "Connections to Postgres at most; statements are batches, so few are enough.",
        minimum=2,
        maximum=200,
    )
    postgres_timeout_s: float = setting(
        10.0, "Seconds a statement may take before it counts as failed.", minimum=0.1, maximum=600
    )
    inventory_target: str = setting(REQUIRED, "gRPC target of inventory's LedgerService.")
    ledger_timeout_s: float = setting(
        5.0, "Seconds that inventory has to answer a batch.", minimum=0.1, maximum=60
    )
    admission_key_file: Path = setting(
        REQUIRED,
        "JSON list of the keys that admissions are checked with, newest first; the queue's, read again when "
        "the file changes.",
    )
    ticket_key_file: Path = setting(
        REQUIRED,
        "JSON list of the Ed25519 keys that tickets are signed with, newest first; read again when the file "
        "changes.",
    )

    webhook_listen: str = setting("127.0.0.1:8080", "host:port that providers' webhooks come in on.")
    webhook_url: str = setting(REQUIRED, "Where providers reach webhook_listen from outside.")
    sandbox_url: str = setting(REQUIRED, "Where the sandbox provider listens.")
    sandbox_key_file: Path = setting(REQUIRED, 'JSON file {"api_key", "webhook_secret"} of the sandbox.')
    provider_timeout_s: float = setting(
        5.0, "Seconds a provider has to answer; after that its answer is unknown.", minimum=0.1, maximum=60
    )
    provider_connections: int = setting(
        64, "Connections kept to a provider, and so calls to it at once.", minimum=1, maximum=1000
    )
    webhook_tolerance_s: float = setting(
        300.0, "Seconds that a webhook's signature may be old: longer and it could be a replay.", minimum=1
    )

    orders_placing: int = setting(
        5000, "Orders that are being placed at once; more are refused as OVERLOADED.", minimum=1
    )
    buyers_paused: int = setting(
        50_000,
        "Buyers remembered who are refused as ORDER_LIMIT before their order is stored; each costs about 300 "
        "bytes, and one who is forgotten stores one more order.",
        minimum=1,
        maximum=10_000_000,
    )
    intake_batch: int = setting(256, "Orders that a worker takes on in one batch.", minimum=1, maximum=500)
    orders_in_flight: int = setting(
        500, "Orders that this process leads on at once; beyond, it takes no more on.", minimum=1
    )
    unprocessable_tries: int = setting(
        5, "Tries after which an order that makes the worker fail is rejected.", minimum=1, maximum=100
    )
    breaker_failures: int = setting(
        5, "Failures in a row after which a provider or inventory is left alone for a while.", minimum=1
    )
    breaker_pause_s: float = setting(
        2.0, "Seconds for which one that failed is left alone.", minimum=0.05, maximum=300
    )
    resume_s: float = setting(
        5.0,
        "Seconds after which the sweeper takes up an order that its own process should have led on.",
        minimum=0.1,
        maximum=600,
    )
    resume_longest_s: float = setting(
        60.0,
        "Seconds between two visits of the sweeper to an order that does not move, at most.",
        minimum=0.1,
    )
    sweep_s: float = setting(
        0.25, "Seconds between two looks for orders that are due.", minimum=0.01, maximum=60
    )
    sweep_batch: int = setting(500, "Orders that one look takes up.", minimum=1, maximum=10_000)
    relay_pending: int = setting(
        20_000,
        "States that wait in memory for publication at most; beyond, they are read from the outbox later.",
        minimum=1,
    )
    relay_stale_s: float = setting(
        2.0,
        "Seconds after which a state that its own process should have published is published by any.",
        minimum=0.1,
        maximum=600,
    )
