"""The inventory's settings, from the environment, each with its unit and the reason to change it."""

from dataclasses import dataclass
from pathlib import Path

from services.kit.settings import REQUIRED, RedisStoreSettings, setting


@dataclass(frozen=True, kw_only=True)
class InventorySettings(RedisStoreSettings):
    """What the inventory is told beside what every service is told."""

    redis_url: str = setting(
        REQUIRED, "redis://, redis+sentinel:// or redis+cluster:// URL of the promise ledger.", secret=True
    )
    admission_key_file: Path = setting(
        REQUIRED,
        "JSON list of the keys that admissions are checked with, newest first, as the queue has it; read "
        "again when the file changes.",
    )
    batch_commands: int = setting(
        256, "Commands of one sale gathered into one run of the script at most.", minimum=1, maximum=1000
    )
    batch_linger_ms: float = setting(
        2.0,
        "Milliseconds a batch waits for company under load, up to five times in a row while more keep "
        "coming; an idle sale never waits.",
        minimum=0,
        maximum=100,
    )
    batch_pending: int = setting(
        10_000, "Commands of one sale that wait at most; more are refused as OVERLOADED.", minimum=1000
    )
    run_budget: int = setting(
        480,
        "What one run may cost before the rest goes into the next, counted in changes and units that move, "
        "some 7 µs each; Redis serves nobody else meanwhile.",
        minimum=10,
        maximum=100_000,
    )
    refused_orders: int = setting(
        100,
        "Orders of one buyer that may be refused, and are kept with their reason, within the time of a hold; "
        "beyond, every order is refused as ORDER_LIMIT. Nobody who picks seats by hand comes near.",
        minimum=1,
        maximum=100_000,
    )
    sweep_ms: int = setting(
        250,
        "Milliseconds between looks for what is due where nobody comes by; every other run looks too.",
        minimum=10,
        maximum=60_000,
    )
    snapshot_ms: int = setting(
        1000,
        "Milliseconds for which all callers share one reading of availability.",
        minimum=0,
        maximum=10_000,
    )
    watch_ms: int = setting(
        250,
        "Milliseconds between readings of a sale whose availability somebody watches; what changes in "
        "between is told as one.",
        minimum=20,
        maximum=10_000,
    )
    heartbeat_s: float = setting(
        10.0,
        "Seconds after which a watcher of availability hears again although nothing changed.",
        minimum=0.2,
        maximum=15.0,
    )
    streams_per_buyer: int = setting(
        20,
        "Streams of one buyer open at once in this process, of all sales and devices; each costs 25 kB.",
        minimum=1,
        maximum=10_000,
    )
    outbox_keep_s: float = setting(
        300.0, "Seconds that a change stays in Redis after JetStream has it.", minimum=1
    )
    checkout_target: str = setting(
        REQUIRED,
        "gRPC target of checkout's SettlementService: it knows what became of units that this store lost.",
    )
    reconcile_s: float = setting(
        300.0,
        "Seconds between two comparisons of a sale's sold units with checkout's orders.",
        minimum=0.1,
        maximum=86_400,
    )
    saga_max_s: float = setting(
        900.0,
        "Seconds that a disagreement lasts before it is repaired: longer than any order is on its way "
        "between two steps.",
        minimum=0.1,
        maximum=86_400,
    )
    load_wait_s: float = setting(
        10.0, "Seconds that Load waits for a revision to arrive.", minimum=0.1, maximum=60
    )
