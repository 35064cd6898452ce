"""What an audit is told where no embedded stack says it: a cluster's stores, from the environment."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Where the stores are. URLs are of users that may read: `rights.AUDITOR`, or the owner."""

    redis_url: str = setting(REQUIRED, "redis://user:password@host:port of line and units.", secret=True)
    nats_url: str = setting(REQUIRED, "nats://user:password@host:port of JetStream.", secret=True)
    postgres_url: str = setting(
        REQUIRED,
        "postgresql://user:password@host:port/database; a CA of its own stands in it as sslrootcert.",
        secret=True,
    )
    redis_ca_file: Path | None = setting(None, "PEM file with the CAs of Redis' certificate.")
    nats_ca_file: Path | None = setting(None, "PEM file with the CAs of NATS' certificate.")
    sandbox_url: str = setting(REQUIRED, "Where the payment provider's ledger is read.")
    sandbox_key_file: Path = setting(REQUIRED, 'JSON file {"api_key", "webhook_secret"} of the sandbox.')
    ticket_key_file: Path | None = setting(
        None, "JSON list of the keys that tickets are signed with; without it signatures are not judged."
    )
