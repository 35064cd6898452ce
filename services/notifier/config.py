"""The notifier's settings."""

from dataclasses import dataclass

from services.kit.settings import CommonSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """What the notifier is told beside the common settings."""

    heartbeat_s: float = setting(
        10.0,
        "Seconds after which a stream that has nothing to say says so; the contract promises 15 at most.",
        minimum=0.05,
        maximum=15,
    )
    max_streams: int = setting(
        20_000, "Streams open at once in this process; each costs about 25 kB.", minimum=1, maximum=1_000_000
    )
    streams_per_buyer: int = setting(
        20,
        "Streams of one buyer open at once in this process, of all sales and devices; each costs 25 kB.",
        minimum=1,
        maximum=10_000,
    )
    max_buyers_per_stream: int = setting(
        100_000, "Buyers on one stream of a BFF; each costs about 400 bytes.", minimum=1, maximum=1_000_000
    )
    max_buyers_per_message: int = setting(
        1000, "Buyers that one message of a BFF may add, and drop.", minimum=1, maximum=10_000
    )
    max_orders_per_stream: int = setting(
        250_000,
        "Orders that one stream tells of; their versions are remembered so that nothing is told twice.",
        minimum=1,
        maximum=10_000_000,
    )
    max_pending_per_stream: int = setting(
        5000,
        "Updates kept for a client that reads slowly; what exceeds it is read again from the stream later.",
        minimum=1,
        maximum=1_000_000,
    )
    max_updates_per_message: int = setting(500, "Updates in one message to a BFF.", minimum=1, maximum=10_000)
    max_message_payload_bytes: int = setting(
        1024 * 1024,
        "Bytes of updates after which a message to a BFF is full; clients take 4 MiB by default.",
        minimum=1024,
        maximum=32 * 1024 * 1024,
    )
    buyers_per_read: int = setting(
        500,
        "Buyers whose last states are read with one request; the server answers 1024 orders at most.",
        minimum=1,
        maximum=512,
    )
    read_retry_s: float = setting(
        0.2, "Seconds before last states are read again after a read that failed.", minimum=0.01, maximum=10
    )
