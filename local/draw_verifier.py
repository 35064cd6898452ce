"""Checks a sale's draw, and one's own place in it, from two files: docs/draw.md implemented by itself.

It shares no code with what draws, so each shows the other's mistakes. It also works by itself, on Python 3.11
with `cryptography`, and `pyblst` for a draw with a beacon:
`python draw_verifier.py draw.json --receipt receipt.json`.
"""

import argparse
import hashlib
import hmac
import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DRAW_FORMAT, RECEIPT_FORMAT = "catraca-draw-1", "catraca-receipt-1"
ROUNDS = 12
DRAND, SCHEME = "drand:", "bls-unchained-g1-rfc9380"
HASH_TO_G1 = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
# The generator of G2, compressed.
G2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)


class Unreadable(Exception):
    """A file is no draw or no receipt, or the draw has not taken place yet."""


@dataclass(frozen=True)
class Check:
    """One sentence, and whether it is true."""

    says: str
    holds: bool


# ---- the draw ----


def commitment(seed: bytes) -> str:
    """What was published of the seed beforehand, hexadecimal."""
    return hashlib.sha256(seed).hexdigest()


def draw_key(seed: bytes, root: bytes, beacon: bytes) -> bytes:
    """The permutation's key."""
    return hmac.digest(seed, root + beacon, "sha256")


class Places:
    """Who stands where: the place of each index of a cohort."""

    def __init__(self, key: bytes, cohort: int) -> None:
        """Works the round function out for all of its arguments."""
        self.cohort = cohort
        self.a = 2
        while self.a * self.a < cohort:
            self.a += 2
        self.b = (cohort + self.a - 1) // self.a
        self._f = [
            [self._word(key, i, v) for v in range(self.b if i % 2 == 0 else self.a)] for i in range(ROUNDS)
        ]

    @staticmethod
    def _word(key: bytes, number: int, value: int) -> int:
        data = struct.pack(">BQ", number, value)
        return int.from_bytes(hashlib.blake2b(data, key=key, digest_size=8).digest(), "big")

    def of(self, index: int) -> int:
        """The place of an index in [0, cohort)."""
        x = index
        while True:
            left, right = divmod(x, self.b)
            for i, f in enumerate(self._f):
                if i % 2 == 0:
                    left = (left + f[right]) % self.a
                else:
                    right = (right + f[left]) % self.b
            x = left * self.b + right
            if x < self.cohort:
                return x


# ---- the tree ----


def salted_id(salt: bytes, buyer: bytes) -> bytes:
    """What stands for a buyer in the tree."""
    return hashlib.sha256(salt + buyer).digest()


def leaf(index: int, salted: bytes) -> bytes:
    """The leaf of an index."""
    return hashlib.sha256(b"\x00" + struct.pack(">Q", index) + salted).digest()


def node(left: bytes, right: bytes) -> bytes:
    """What stands above two nodes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below a size of two or more."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of(salted_ids: Sequence[bytes], first: int = 0, end: int | None = None) -> bytes:
    """The root over the leaves of [first, end), as RFC 6962 has it."""
    end = len(salted_ids) if end is None else end
    if end == first:
        return hashlib.sha256(b"").digest()
    if end - first == 1:
        return leaf(first, salted_ids[first])
    middle = first + _split(end - first)
    return node(root_of(salted_ids, first, middle), root_of(salted_ids, middle, end))


def root_by_path(index: int, size: int, found: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from a leaf; None for a path of another length than it must have."""
    if size == 1:
        return found if not path else None
    if not path:
        return None
    split, sibling = _split(size), path[-1]
    if index < split:
        below = root_by_path(index, split, found, path[:-1])
        return None if below is None else node(below, sibling)
    below = root_by_path(index - split, size - split, found, path[:-1])
    return None if below is None else node(sibling, below)


# ---- the beacon ----


def chain_hash(beacon: Mapping[str, Any]) -> str:
    """The hash of a drand chain, by which it is named: over its period, beginning, public key and group."""
    numbers = struct.pack(">Iq", beacon["period_s"], beacon["genesis_s"])
    keys = bytes.fromhex(beacon["public_key"]) + bytes.fromhex(beacon["group_hash"])
    name = b"" if beacon["beacon_id"] in ("", "default") else beacon["beacon_id"].encode()
    return hashlib.sha256(numbers + keys + name).hexdigest()


def round_after(beacon: Mapping[str, Any], at_ms: int) -> int:
    """The first round that is due after a moment."""
    genesis_s, period_s = int(beacon["genesis_s"]), int(beacon["period_s"])
    return max(0, (at_ms - genesis_s * 1000) // (period_s * 1000) + 1) + 1


def signed_by_chain(public_key: bytes, number: int, signature: bytes) -> bool:
    """Whether a round's signature is its chain's: BLS on BLS12-381, signatures in G1 (RFC 9380)."""
    import pyblst

    try:
        signed = pyblst.BlstP1Element().uncompress(signature)
        key, one = pyblst.BlstP2Element().uncompress(public_key), pyblst.BlstP2Element().uncompress(G2)
    except ValueError:
        return False
    message = hashlib.sha256(struct.pack(">Q", number)).digest()
    point = pyblst.BlstP1Element.hash_to_group(message, HASH_TO_G1)
    return bool(pyblst.final_verify(pyblst.miller_loop(signed, one), pyblst.miller_loop(point, key)))


def check_beacon(beacon: Mapping[str, Any], root_at_ms: int, value: bytes) -> Iterator[Check]:
    """That the beacon's value is of the chain that was announced, and of the round that it had to be."""
    named = beacon["source"] == DRAND + chain_hash(beacon) and beacon["scheme"] == SCHEME
    yield Check("the beacon's key is the one of the chain that was announced", named)
    if not named:
        return
    due = round_after(beacon, root_at_ms)
    yield Check(f"its round is the first after the root was published, {due}", beacon["round"] == due)
    signature = bytes.fromhex(beacon["signature"])
    yield Check("its value is the hash of the round's signature", hashlib.sha256(signature).digest() == value)
    good = signed_by_chain(bytes.fromhex(beacon["public_key"]), beacon["round"], signature)
    yield Check("the round was signed by the chain", good)


# ---- the receipt ----


@dataclass
class Body:
    """What a receipt says, as it was signed."""

    sale: str = ""
    salted_ids: dict[int, list[bytes]] = field(default_factory=dict)
    """By index. A batch may hold one buyer twice, never two at an index."""
    commitment: str = ""
    beacon: str = ""


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message, numbers and bytes only. Raises ValueError, IndexError."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        number, kind = divmod(varint(), 8)
        value = varint()
        if kind == 2:
            if at + value > len(data):
                raise ValueError("it is cut off")
            yield number, data[at : at + value]
            at += value
        elif kind == 0:
            yield number, value
        else:
            raise ValueError(f"no field has the wire type {kind}")


def read_body(data: bytes) -> Body:
    """The signed body of a receipt: catraca.queue.v1.ReceiptBody. Raises ValueError, IndexError."""
    body = Body()
    for number, value in _fields(data):
        if number == 1:
            body.sale = value.decode()
        elif number == 2:
            entry: dict[int, Any] = {1: b"", 2: 0} | dict(_fields(value))
            body.salted_ids.setdefault(entry[2], []).append(entry[1])
        elif number == 4:
            body.commitment = value.decode()
        elif number == 5:
            body.beacon = value.decode()
    return body


def signed(keys: Sequence[Mapping[str, Any]], receipt: Mapping[str, Any]) -> bool:
    """Whether a published key that nobody else got hold of signed the receipt."""
    for key in keys:
        if key["id"] == receipt["key_id"] and not key.get("revoked"):
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["public"]))
            try:
                public.verify(bytes.fromhex(receipt["signature"]), bytes.fromhex(receipt["body"]))
            except InvalidSignature:
                return False
            return True
    return False


# ---- both ----


@dataclass(frozen=True)
class Verdict:
    """What was checked, and the place of who holds the receipt; None without one, or where it is wrong."""

    checks: list[Check]
    place: int | None = None

    @property
    def ok(self) -> bool:
        """Everything holds."""
        return all(check.holds for check in self.checks)


def verify(draw: Mapping[str, Any], receipt: Mapping[str, Any] | None = None) -> Verdict:
    """Checks a draw, and the place of who holds the receipt. Raises Unreadable."""
    try:
        if draw["format"] != DRAW_FORMAT:
            raise Unreadable(f"the draw is not of the format {DRAW_FORMAT}")
        if not draw["seed"]:
            raise Unreadable("the draw has not taken place yet")
        checks = [check_size(draw), *check_draw(draw)]
        if receipt is None:
            return Verdict(checks)
        if receipt["format"] != RECEIPT_FORMAT:
            raise Unreadable(f"the receipt is not of the format {RECEIPT_FORMAT}")
        checks += check_receipt(draw, receipt)
        verdict = Verdict(checks)
        return Verdict(checks, place_of(draw, receipt["index"])) if verdict.ok else verdict
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, struct.error) as problem:
        raise Unreadable(f"a field is missing or malformed: {problem!r}") from problem


def check_size(draw: Mapping[str, Any]) -> Check:
    """That the root is over the whole cohort: only a tree of that size has its last leaf there."""
    cohort, root = draw["cohort"], bytes.fromhex(draw["root"])
    found: bytes | None = root_of([])
    if cohort > 0:
        path = [bytes.fromhex(text) for text in draw["last"]["path"]]
        last = leaf(cohort - 1, bytes.fromhex(draw["last"]["salted_id"]))
        found = root_by_path(cohort - 1, cohort, last, path)
    return Check(f"the published root is over {cohort} buyers", found == root)


def check_draw(draw: Mapping[str, Any]) -> Iterator[Check]:
    """That the draw was made from what was committed to."""
    made_of = bytes.fromhex(draw["seed"])
    yield Check("the seed is the one that was committed to", commitment(made_of) == draw["commitment"])
    value = bytes.fromhex(draw["beacon_value"])
    if draw["beacon"] is None:
        yield Check("no beacon was announced, and none was drawn with", not value)
    else:
        yield from check_beacon(draw["beacon"], milliseconds(draw["root_at"]), value)


def check_receipt(draw: Mapping[str, Any], receipt: Mapping[str, Any]) -> Iterator[Check]:
    """That who holds the receipt was in this draw, or joined behind it."""
    index, body = receipt["index"], read_body(bytes.fromhex(receipt["body"]))
    yield Check("a published key signed the receipt", signed(draw["receipt_keys"], receipt))
    yield Check("it is of this sale", body.sale == draw["sale"])
    announced = draw["beacon"]["source"] if draw["beacon"] else ""
    promised = body.commitment == draw["commitment"] and body.beacon == announced
    yield Check("it promised this draw: its commitment, and its beacon", promised)
    known = body.salted_ids.get(index, [])
    yield Check(f"it gives the index {index} to one buyer", len(set(known)) == 1)
    if index < draw["cohort"]:
        path = [bytes.fromhex(text) for text in receipt["proof"] or ()]
        roots = {root_by_path(index, draw["cohort"], leaf(index, each), path) for each in known}
        yield Check("that buyer stands in the published root", roots == {bytes.fromhex(draw["root"])})
    if receipt.get("place") is not None:
        told = receipt["place"]
        yield Check(f"the place that was told, {told}, is the one drawn", told == place_of(draw, index))


def place_of(draw: Mapping[str, Any], index: int) -> int:
    """The place of an index: drawn within the cohort, in order of arrival behind it."""
    cohort = draw["cohort"]
    if not isinstance(index, int) or index < 0:
        raise ValueError("an index is a number from 0 on")
    if index >= cohort:
        return index
    seed, root, value = (bytes.fromhex(draw[name]) for name in ("seed", "root", "beacon_value"))
    return Places(draw_key(seed, root, value), cohort).of(index)


def milliseconds(moment: str) -> int:
    """A moment of RFC 3339 in milliseconds since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


# ---- the command ----


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("draw", type=Path, metavar="DRAW.json", help="what is published of the draw")
    parser.add_argument("--receipt", type=Path, metavar="RECEIPT.json", help="a receipt of that sale's line")


def run(arguments: argparse.Namespace) -> int:
    """Tell what holds. Returns 0 if everything does, 1 if something does not, 2 for what cannot be read."""
    try:
        draw = _read(arguments.draw)
        receipt = _read(arguments.receipt) if arguments.receipt else None
        verdict = verify(draw, receipt)
    except Unreadable as problem:
        print(f"unreadable: {problem}", file=sys.stderr)
        return 2
    for check in verdict.checks:
        print(f"{'ok   ' if check.holds else 'WRONG'} {check.says}")
    if verdict.place is not None:
        where = "of" if verdict.place < draw["cohort"] else "behind"
        print(f"place {verdict.place} {where} the {draw['cohort']} of the draw of {draw['sale']}, from 0")
    return 0 if verdict.ok else 1


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise Unreadable(f"{path}: {problem}") from None
    if not isinstance(content, dict):
        raise Unreadable(f"{path}: it is not a JSON object")
    return content


if __name__ == "__main__":
    own = argparse.ArgumentParser(description="Checks a sale's draw, and one's own place in it.")
    add_arguments(own)
    sys.exit(run(own.parse_args()))
