"""The queue's settings, from the environment, each with its unit and the reason to change it."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, RedisStoreSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(RedisStoreSettings):
    """What the queue is told beside what every service is told."""

    redis_url: str = setting(REQUIRED, "redis://host:port of the line's store.", secret=True)
    inventory_target: str = setting(REQUIRED, "host:port of inventory's gRPC: the promise ledger.")
    checkout_target: str = setting(REQUIRED, "host:port of checkout's gRPC: asked before a sale is archived.")
    admission_key_file: Path = setting(
        REQUIRED,
        "JSON list of the keys that admissions are made with, newest first, as inventory has it; read again "
        "when the file changes.",
    )
    receipt_key_file: Path | None = setting(
        None,
        "JSON list of the Ed25519 keys that join receipts are signed with, newest first, read again when the "
        "file changes; without it there are none.",
    )
    drand_urls: str = setting(
        "",
        "Base URLs of drand's HTTP relays, comma-separated; each is asked until one has an answer that "
        "the chain signed. Without any, a sale whose draw takes a beacon in is refused.",
    )
    lease_ttl_ms: int = setting(
        3000, "Milliseconds after which a dead leader is replaced.", minimum=200, maximum=60_000
    )
    call_poll_ms: int = setting(
        100,
        "Milliseconds between looks at a line while somebody may be called, as far as rate or draw allow; "
        "else news of the stock and of joins wake the leader, and it looks once a second.",
        minimum=10,
        maximum=5000,
    )
    call_batch: int = setting(
        200,
        "Buyers in one CALL at most: more call faster and make each run of the ledger's script longer.",
        minimum=1,
        maximum=1000,
    )
    standing_poll_ms: int = setting(
        100,
        "Milliseconds between readings of a sale's standing for all who watch it.",
        minimum=10,
        maximum=1000,
    )
    heartbeat_s: float = setting(
        10.0,
        "Seconds after which a watcher hears again although nothing changed for it.",
        minimum=0.2,
        maximum=15.0,
    )
    watch_near: int = setting(
        50,
        "Buyers before the front who are told every step; the others hear their position with the heartbeat.",
        minimum=0,
        maximum=10_000,
    )
    turn_near_places: int = setting(
        50,
        "Places before the front that are near: who asked for turn news is told so there.",
        minimum=0,
        maximum=100_000,
    )
    turn_near_s: float = setting(
        120.0,
        "Seconds before the likely call in which buyers further from the front are near too: what it takes "
        "to come back to a page one left.",
        minimum=0,
        maximum=3600,
    )
    watch_sale_ms: int = setting(
        250, "Milliseconds between two messages of WatchSale at least.", minimum=50, maximum=5000
    )
    standing_listen: str | None = setting(
        None, "host:port of plain HTTP for the public standing of sales; without it there is none."
    )
    rejoin_pause_s: float = setting(
        2.0,
        "Seconds between two joins of one buyer who leaves and joins again: each is an event, and in an open "
        "line takes room for good.",
        minimum=0,
        maximum=60,
    )
    challenge_digits: int = setting(
        4,
        "Hexadecimal zeros to find before joining a sale that wants a challenge: each more is 16 times the "
        "work; 4 are 65,536 hashes on average, which is a second or a few on a phone.",
        minimum=1,
        maximum=8,
    )
    challenge_s: float = setting(
        600.0,
        "Seconds in which a challenge can be solved and joined with.",
        minimum=10,
        maximum=86_400,
    )
    streams_per_buyer: int = setting(
        20,
        "Streams of one buyer open at once in this process, of all sales and devices; each costs 25 kB.",
        minimum=1,
        maximum=10_000,
    )
    joins_per_run: int = setting(
        64,
        "Unary joins in one run of the script at most; they share a receipt, which grows with them.",
        minimum=1,
        maximum=1000,
    )
