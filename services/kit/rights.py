"""What each service may do in Redis and NATS: the one table that users and their rights are made from.

A service gets what it uses and nothing else: its own keys, its own subjects, the streams it reads. Nobody who
serves buyers may make or change a stream, as a stream can be told to copy another, nor flush or
configure a Redis. The servers refuse the rest, so a service that is taken over cannot do another's work.
tests/integration/local/test_rights.py holds what is given against what is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

AUDITOR = "auditor"

# What redis-py says on each connection, and what a service asks before it begins.
_CONNECTION = ("ping", "client|setinfo", "client|setname", "info")
# The outbox in Redis, as its relay reads and trims it.
_RELAY = ("exists", "xrange", "xtrim", "xinfo|stream")


@dataclass(frozen=True)
class Keys:
    """What a user may do in Redis."""

    pattern: str
    """Keys, as Redis' patterns say it."""
    scripted: tuple[str, ...] = ()
    """Commands that its script calls; Redis asks for the right to each."""
    direct: tuple[str, ...] = ()
    """Commands that it sends itself; `command|subcommand` for one of a command's."""

    @property
    def acl(self) -> str:
        """The rules of an ACL user, without its name and password. Channels are given to nobody."""
        commands = dict.fromkeys((*_CONNECTION, *self.direct, *self.scripted))
        return " ".join(["resetchannels", f"~{self.pattern}", "-@all", *(f"+{name}" for name in commands)])


@dataclass(frozen=True)
class Subjects:
    """What a user may do in NATS."""

    publishes: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    """Subjects it subscribes to by itself, past JetStream."""
    reads: tuple[str, ...] = ()
    """Streams whose messages it asks for."""
    follows: tuple[str, ...] = ()
    """Streams that it follows, with a consumer that is gone when it is."""
    works: Mapping[str, str] = field(default_factory=dict)
    """Streams that it works through, each with its durable consumer."""

    @property
    def streams(self) -> frozenset[str]:
        """Every stream that it uses."""
        return frozenset((*self.reads, *self.follows, *self.works))

    @property
    def publish(self) -> list[str]:
        """The subjects it may publish to: JetStream is asked by publishing."""
        api = [f"STREAM.INFO.{stream}" for stream in sorted(self.streams)]
        for stream in self.reads:
            api += [f"STREAM.MSG.GET.{stream}", f"DIRECT.GET.{stream}", f"DIRECT.GET.{stream}.>"]
        for stream in self.follows:
            api += [f"CONSUMER.{what}.{stream}.*" for what in ("CREATE", "MSG.NEXT", "DELETE")]
        for stream, durable in self.works.items():
            api += [f"CONSUMER.{what}.{stream}.{durable}" for what in ("CREATE", "INFO", "MSG.NEXT")]
        answers = [f"$JS.ACK.{stream}.{durable}.>" for stream, durable in self.works.items()]
        return [*self.publishes, *answers, *(f"$JS.API.{subject}" for subject in api)]

    def subscribe(self, user: str) -> list[str]:
        """The subjects it may subscribe to: answers come to inboxes of its own."""
        return [*self.hears, f"_INBOX.{user}.>"]


REDIS: Mapping[str, Keys] = {
    "queue": Keys(
        "q:*",
        scripted=(
            *(
                "append",
                "del",
                "get",
                "getbit",
                "getrange",
                "hget",
                "hlen",
                "hmget",
                "hset",
                "hsetnx",
                "pexpire",
                "pttl",
                "set",
                "setbit",
                "setrange",
            ),
            *("time", "unlink", "xadd", "zadd", "zremrangebyscore"),
        ),
        direct=("evalsha", "eval", "time", "wait", *_RELAY),
    ),
    "inventory": Keys(
        "i:*",
        scripted=(
            *(
                "get",
                "getrange",
                "hget",
                "hgetall",
                "hmget",
                "hscan",
                "hset",
                "lrange",
                "ltrim",
                "rpush",
            ),
            *("set", "setrange", "time", "unlink", "xadd", "zadd", "zrange", "zrangebyscore", "zrem"),
        ),
        direct=("evalsha", "eval", "wait", *_RELAY),
    ),
    # For `catraca audit`: it reads both, each at one moment.
    AUDITOR: Keys("*", direct=("multi", "exec", "get", "hgetall", "xrange")),
}

NATS: Mapping[str, Subjects] = {
    "queue": Subjects(
        publishes=(
            "catraca.queue.*.line",
            "catraca.turn.>",
            "catraca.arrived.*",
            "$KV.sales.*",
            "$KV.epochs.queue.*",
            "$KV.draws.*",
            "$O.plans.>",
        ),
        hears=("catraca.arrived.*",),
        reads=("QUEUE", "KV_sales", "KV_epochs", "KV_draws", "OBJ_plans"),
        follows=("KV_sales", "INVENTORY"),
    ),
    "inventory": Subjects(
        publishes=("catraca.inventory.*.units", "catraca.lost.>", "$KV.epochs.inventory.*"),
        reads=("INVENTORY", "KV_sales", "KV_epochs", "OBJ_plans"),
        follows=("KV_sales",),
    ),
    "checkout": Subjects(
        publishes=("catraca.intake.>", "catraca.checkout.*.order.>", "catraca.dead.checkout-intake"),
        reads=("INTAKE", "CHECKOUT", "KV_sales"),
        follows=("KV_sales",),
        works={"INTAKE": "checkout-intake"},
    ),
    "notifier": Subjects(
        reads=("CHECKOUT", "LOST", "TURNS", "KV_sales"), follows=("CHECKOUT", "LOST", "TURNS", "KV_sales")
    ),
    # For `catraca audit`, which re-makes the draw from its seed, and for the view of `catraca demo`.
    AUDITOR: Subjects(
        hears=("catraca.>",),
        reads=("QUEUE", "INVENTORY", "INTAKE", "CHECKOUT", "KV_sales", "KV_draws"),
    ),
}


def streams_of(service: str) -> frozenset[str]:
    """The streams that a service uses."""
    return NATS[service].streams
