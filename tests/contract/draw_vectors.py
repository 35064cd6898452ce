"""Makes docs/draw-vectors.json with the services' own code: `python -m tests.contract.draw_vectors > docs/…`.

They are for implementations by others, so they never change: a draw that was made stays checkable.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from catraca.keys.v1.keys_pb2 import PublicKey
from catraca.queue.v1.queue_pb2 import (
    BeaconRound,
    Draw,
    GetReceiptResponse,
    InclusionProof,
    Place,
    Receipt,
    ReceiptBody,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from local.draw_files import draw_file, receipt_file
from services.kit.signing import key_id_of
from services.queue import draw

SIZES = (0, 1, 2, 3, 4, 5, 7, 9, 16, 33)
LARGE = (100, 1024, 1025, 10_007, 1_000_000, 5_000_000)
SALE = "stadium-final"
# Round 1000 of drand's quicknet, as League of Entropy published it.
QUICKNET = BeaconRound(
    round=1000,
    signature=bytes.fromhex(
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
    ),
    public_key=bytes.fromhex(
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
        "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
    ),
    period_s=3,
    genesis_s=1692803367,
    group_hash=bytes.fromhex("f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e"),
    beacon_id="quicknet",
    scheme="bls-unchained-g1-rfc9380",
)
QUICKNET_SOURCE = "drand:52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
QUICKNET_VALUE = hashlib.sha256(QUICKNET.signature).digest()
# Half a second before round 1000 was due.
ROOT_AT_MS = (1692803367 + 999 * 3) * 1000 - 500


def numbered(label: str, number: int) -> bytes:
    """32 bytes that everybody can make: SHA-256 of the label, a space and the number."""
    return hashlib.sha256(f"{label} {number}".encode()).digest()


def buyers_of(size: int) -> list[bytes]:
    """The internal ids of a cohort."""
    return [numbered("buyer", number)[:16] for number in range(size)]


def _tree(salt: bytes, buyers: Sequence[bytes]) -> draw.Tree:
    tree = draw.Tree()
    tree.extend(salt, buyers)
    return tree


def _path(tree: draw.Tree, salt: bytes, buyers: Sequence[bytes], index: int) -> list[bytes]:
    first = index - index % draw.Tree.BLOCK
    return tree.path(salt, index, buyers[first : first + draw.Tree.BLOCK])


def whole_draw(size: int, beacon: bytes) -> dict[str, Any]:
    """Everything of a small draw."""
    seed, salt, buyers = numbered("seed", size), numbered("salt", size), buyers_of(size)
    tree = _tree(salt, buyers)
    root = tree.root()
    key = draw.draw_key(seed, root, beacon)
    permutation = draw.Permutation(key, size) if size else None
    return {
        "seed": seed.hex(),
        "commitment": draw.commitment(seed),
        "salt": salt.hex(),
        "buyers": [buyer.hex() for buyer in buyers],
        "salted_ids": [draw.salted_id(salt, buyer).hex() for buyer in buyers],
        "root": root.hex(),
        "paths": [[node.hex() for node in _path(tree, salt, buyers, index)] for index in range(size)],
        "beacon": beacon.hex(),
        "key": key.hex(),
        "places": [permutation.place(index) for index in range(size)] if permutation else [],
    }


def large_draw(size: int) -> dict[str, Any]:
    """Some places of a large cohort."""
    key = numbered("key", size)
    permutation = draw.Permutation(key, size)
    indexes = sorted({0, 1, 2, size // 3, size // 2, size - 2, size - 1})
    places = [[index, permutation.place(index)] for index in indexes]
    return {"key": key.hex(), "cohort": size, "places": places}


def files(beacon: bool) -> dict[str, Any]:
    """A draw and a receipt as `catraca draw` and `catraca receipt` print them, and the place to come to."""
    size, index = 33, 7
    seed, salt, buyers = numbered("seed", size), numbered("salt", size), buyers_of(size)
    tree = _tree(salt, buyers)
    value = QUICKNET_VALUE if beacon else b""
    published = Draw(
        commitment=draw.commitment(seed),
        cohort=size,
        root=tree.root().hex(),
        seed=seed.hex(),
        beacon=value.hex(),
        beacon_source=QUICKNET_SOURCE if beacon else "",
        beacon_round=QUICKNET if beacon else None,
    )
    last = _path(tree, salt, buyers, size - 1)
    published.last.MergeFrom(
        InclusionProof(index=size - 1, salted_buyer=draw.salted_id(salt, buyers[-1]), path=last)
    )
    published.frozen_at.FromMilliseconds(ROOT_AT_MS - 20)
    published.root_at.FromMilliseconds(ROOT_AT_MS)
    body = ReceiptBody(
        sale=SALE,
        signed_at_ms=ROOT_AT_MS - 60_000,
        draw_commitment=published.commitment,
        beacon=published.beacon_source,
    )
    # Three joins of one batch share a signature.
    for at in (6, index, 8):
        body.entries.add(salted_buyer=draw.salted_id(salt, buyers[at]), index=at)
    private = Ed25519PrivateKey.from_private_bytes(numbered("receipt key", 0))
    public = private.public_key().public_bytes_raw()
    serialized = body.SerializeToString(deterministic=True)
    receipt = Receipt(body=serialized, signature=private.sign(serialized), key_id=key_id_of(public))
    proof = InclusionProof(index=index, path=_path(tree, salt, buyers, index))
    place = draw.Permutation(draw.draw_key(seed, tree.root(), value), size).place(index)
    return {
        "draw": draw_file(SALE, published, [PublicKey(key_id=key_id_of(public), ed25519_public_key=public)]),
        "receipt": receipt_file(
            SALE, GetReceiptResponse(receipt=receipt, proof=proof), Place(index=index, place=place)
        ),
        "place": place,
    }


def vectors() -> dict[str, Any]:
    """All of docs/draw-vectors.json."""
    return {
        "draws": [whole_draw(size, numbered("beacon", size) if size % 2 else b"") for size in SIZES],
        "large": [large_draw(size) for size in LARGE],
        "files": [files(beacon=False), files(beacon=True)],
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
