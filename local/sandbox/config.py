"""What the sandbox provider is told."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """How the sandbox listens and how it misbehaves."""

    sandbox_listen: str = setting("127.0.0.1:8090", "host:port that HTTP listens on.")
    sandbox_url: str = setting(REQUIRED, "Where buyers reach it: sessions' URLs begin with it.")
    sandbox_ledger: Path = setting(REQUIRED, "The SQLite file that holds every session; made if missing.")
    sandbox_key_file: Path = setting(
        REQUIRED, 'JSON file {"api_key", "webhook_secret"}, shared with checkout.'
    )
    sandbox_delay_s: float = setting(
        0.0, "Seconds between a card and the decision about it.", minimum=0, maximum=3600
    )
    sandbox_decline_rate: float = setting(
        0.0, "Share of good cards that are declined nevertheless.", minimum=0, maximum=1
    )
    sandbox_duplicate_rate: float = setting(
        0.0, "Share of webhooks that are sent twice.", minimum=0, maximum=1
    )
    sandbox_lost_answer_rate: float = setting(
        0.0, "Share of calls that are carried out and never answered.", minimum=0, maximum=1
    )
    tls_ca_file: Path | None = setting(
        None, "PEM file with the CAs of those whom webhooks are sent to; without it the machine's."
    )
    log_level: str = setting(
        "info", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
