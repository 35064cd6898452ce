"""What `catraca keys` does to the files of a stack's key rings: list them, rotate, retire.

The services read a file again when it changes. A new key is written some seconds before it is used, so that
each of them checks with it before any of them makes something with it.
"""

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from catraca.sale.v1.sale_pb2 import LINE_KIND_DRAW, SALE_PHASE_ARCHIVED, Sale

from local.private import Entry, new_signing, new_symmetric, write_entries
from services.kit.key_file import LOOK_AGAIN_S
from services.kit.keys import load_ring
from services.kit.signing import load_signing_ring

LEAST_AFTER_S = 2 * LOOK_AGAIN_S
SALES_NAMED = 3

SYMMETRIC = {"admission": "admission_key_file", "buyer-hash": "buyer_hash_key_file"}
"""Purposes whose rings hold secrets, and the setting that names the file."""
SIGNING = {"ticket": "ticket_key_file", "receipt": "receipt_key_file"}
"""Purposes whose rings hold Ed25519 pairs, likewise."""


class Refused(Exception):
    """What was asked for would lose something; the text says what, for a person."""


@dataclass(frozen=True)
class Row:
    """One key as it is shown."""

    purpose: str
    id: str
    made_at: float | None
    state: str
    used_by: str


def rows(purpose: str, path: Path, sales: Sequence[Sale], now: float) -> list[Row]:
    """A ring's keys, newest first."""
    entries = _read(purpose, path)
    active = _active(entries, now)
    found = []
    for at, entry in enumerate(entries):
        used_by = _used_by(purpose, entries, at, sales, now) if at >= active else ""
        if at == active:
            used_by = ", ".join(filter(None, [f"new {_MAKES[purpose]}", used_by]))
        found.append(
            Row(purpose, entry["id"], entry.get("made_at"), _state(entry, at, active), used_by or "nothing")
        )
    return found


def rotate(purpose: str, path: Path, after_s: float) -> str:
    """Puts a new key before the others, which is used from `after_s` seconds on; answers its id.

    Raises Refused, and SettingError for a file that cannot be read.
    """
    if not LEAST_AFTER_S <= after_s < math.inf:
        raise Refused(
            f"the services look at their key files every {LOOK_AGAIN_S:g} s: wait {LEAST_AFTER_S:g} s"
        )
    with _changing(purpose, path) as entries:
        now = time.time()
        if _active(entries, now) > 0:
            coming = entries[0]
            raise Refused(f"{coming['id']} is coming already, at {clock(coming['active_from'])}")
        made = new_signing(now) if purpose in SIGNING else new_symmetric(now)
        made["active_from"] = now + after_s
        entries.insert(0, made)
    return str(made["id"])


def retire(purpose: str, path: Path, key_id: str, sales: Sequence[Sale], *, withdraw: bool) -> str:
    """Lets go of a key that nothing new is made with; answers what became of it. `sales` are all there are.

    A secret goes whole. Of an Ed25519 pair the private half goes and the public half stays published, marked
    as revoked where the key is withdrawn. Raises Refused, and SettingError for a file that cannot be read.
    """
    with _changing(purpose, path) as entries:
        now = time.time()
        at = next((at for at, entry in enumerate(entries) if entry["id"] == key_id), None)
        if at is None:
            raise Refused(f"there is no {purpose} key {key_id}")
        active = _active(entries, now)
        if at < active:
            raise Refused(f"{key_id} is coming, at {clock(entries[at]['active_from'])}")
        if at == active:
            raise Refused(f"{key_id} makes new {_MAKES[purpose]}: rotate first")
        settled = entries[at - 1]["active_from"] + LOOK_AGAIN_S
        if now < settled:
            raise Refused(f"{key_id} may still be in use until {clock(settled)}")
        if purpose in SIGNING:
            return _retire_signing(entries[at], now, withdraw=withdraw)
        used_by = _used_by(purpose, entries, at, sales, now)
        if used_by and not (withdraw and purpose == "admission"):
            raise Refused(f"{key_id} is in use by {used_by}{_HINT[purpose]}")
        del entries[at]
        return "is gone"


def clock(at: float) -> str:
    """A moment for a person, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")


_MAKES: Mapping[str, str] = {
    "admission": "admissions",
    "buyer-hash": "sales",
    "ticket": "tickets",
    "receipt": "receipts",
}
_HINT = {
    "admission": "; with --withdraw they are refused from now on, and their buyers enter again for new ones",
    "buyer-hash": ": it is part of their buyers' ids until they are archived",
}


def _retire_signing(entry: Entry, now: float, *, withdraw: bool) -> str:
    if "revoked_at" in entry or ("pem" not in entry and not withdraw):
        raise Refused(f"{entry['id']} is retired already")
    entry.pop("pem", None)
    if not withdraw:
        return "signs no more; its public half stays published"
    entry["revoked_at"] = now
    return "is revoked: what it signed is not to be taken any more"


def _state(entry: Entry, at: int, active: int) -> str:
    if "revoked_at" in entry:
        return "revoked"
    if at < active:
        return f"coming {clock(entry['active_from'])}"
    if at == active:
        return "active"
    return "public half only" if "public" in entry and "pem" not in entry else "checks only"


def _used_by(purpose: str, entries: list[Entry], at: int, sales: Sequence[Sale], now: float) -> str:
    """What of the past needs a key; empty for nothing."""
    if purpose == "buyer-hash":
        return _sales_bound_to(entries[at]["id"], sales, oldest=at == len(entries) - 1)
    if at == 0 or entries[at - 1]["active_from"] > now:
        return ""
    until = entries[at - 1]["active_from"]
    if purpose in SIGNING:
        return f"{_MAKES[purpose]} signed until {clock(until)}"
    # The last admission may have been made for a turn that had just begun.
    turns = [
        sale.spec.line.turn_duration.ToMilliseconds() / 1000
        for sale in sales
        if sale.phase != SALE_PHASE_ARCHIVED and sale.spec.line.kind == LINE_KIND_DRAW
    ]
    ends = until + LOOK_AGAIN_S + max(turns, default=0.0)
    return f"admissions until {clock(ends)}" if now < ends else ""


def _sales_bound_to(key_id: str, sales: Sequence[Sale], *, oldest: bool) -> str:
    bound = [sale.sale for sale in sales if sale.buyer_key_id == key_id and sale.phase != SALE_PHASE_ARCHIVED]
    if oldest:
        # From before sales were bound: archived or not, nothing else tells which key their buyers have.
        bound += [sale.sale for sale in sales if not sale.buyer_key_id]
    more = f" and {len(bound) - SALES_NAMED} more" if len(bound) > SALES_NAMED else ""
    return f"{', '.join(bound[:SALES_NAMED])}{more}" if bound else ""


def _active(entries: list[Entry], now: float) -> int:
    """Where the key stands that new things are made with."""
    able = [at for at, entry in enumerate(entries) if "public" not in entry or _can_sign(entry)]
    return next((at for at in able if entries[at].get("active_from", 0.0) <= now), able[-1])


def _can_sign(entry: Entry) -> bool:
    return "pem" in entry and "revoked_at" not in entry


@contextmanager
def _changing(purpose: str, path: Path) -> Iterator[list[Entry]]:
    """The file's entries, written back in one step unless the block fails; one at a time."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        entries = _read(purpose, path)
        yield entries
        write_entries(path, entries)
    finally:
        os.close(folder)


def _read(purpose: str, path: Path) -> list[Entry]:
    """The file's entries, once the services would take them. Raises SettingError."""
    load: Callable[[Path, str], object] = load_signing_ring if purpose in SIGNING else load_ring
    load(path, (SYMMETRIC | SIGNING)[purpose])
    entries: list[Entry] = json.loads(path.read_text())
    return entries
