"""The operator's settings."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator is told; it keeps no state of its own and so has no store."""

    namespace: str = setting(
        REQUIRED, "Kubernetes namespace of the TicketSales, the services' Deployments and autoscalers."
    )
    queue_target: str = setting(REQUIRED, "host:port of the queue's gRPC: SaleService and the line.")
    checkout_target: str = setting(REQUIRED, "host:port of checkout's gRPC: asked for open orders.")
    organiser_token_file: Path = setting(
        REQUIRED, "A bearer token with the role organiser; read again when the file changes."
    )
    tls_cert_file: Path | None = setting(
        None,
        "PEM file with the certificate that the operator shows the services, and those between it and its "
        "CA. Read again when it changes.",
    )
    tls_key_file: Path | None = setting(None, "PEM file with the private key of the certificate.")
    tls_ca_file: Path | None = setting(
        None,
        "PEM file with the CAs that the services' certificates come from; without it they are called without "
        "TLS. Read again when it changes.",
    )
    part_of: str = setting(
        "catraca",
        "Value of the label app.kubernetes.io/part-of that HPAs, ScaledObjects and Deployments are found by.",
    )
    metrics_listen: str | None = setting(
        None, "host:port of the HTTP page /metrics for Prometheus, and /healthz; off when not set."
    )
    refresh_s: float = setting(
        5.0,
        "Seconds between two readings of a sale that runs: how old its counts may get.",
        minimum=0.1,
        maximum=300,
    )
    idle_s: float = setting(
        30.0, "Seconds between two readings of any other sale.", minimum=0.1, maximum=3600
    )
    keda_poll_s: float = setting(
        10.0,
        "Seconds between two looks for ScaledObjects of KEDA, which may be installed at any time or never.",
        minimum=0.1,
        maximum=3600,
    )
    hold_back_ahead_s: float = setting(
        15.0,
        "Seconds before the opening at which it is decided whether to hold it back (openPolicy WhenReady).",
        minimum=0,
        maximum=600,
    )
    hold_back_most_s: float = setting(
        300.0, "Seconds after opensAt at which a sale that was held back opens all the same.", minimum=0
    )
    stuck_s: float = setting(
        120.0,
        "Seconds that a reconciliation may be overdue before /healthz says that the operator is stuck.",
        minimum=5,
    )
    at_once: int = setting(
        16, "Sales that are reconciled at once; more wait for their turn.", minimum=1, maximum=500
    )
    watchers_per_replica: int = setting(
        10_000, "Buyers in line whom one replica of the queue bears; the forecast divides by it.", minimum=1
    )
    holds_per_replica_s: float = setting(
        500.0, "Buyers a second who take units whom one replica of inventory bears.", minimum=0.1
    )
    orders_per_replica_s: float = setting(
        100.0, "Orders a second that one replica of checkout bears.", minimum=0.1
    )
    streams_per_replica: int = setting(
        10_000, "Buyers with an order whom one replica of the notifier bears.", minimum=1
    )
    log_level: str = setting(
        "info", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
