"""What `catraca draw` and `catraca receipt` print: the services' answers in the formats of docs/draw.md."""

from collections.abc import Sequence
from typing import Any

from catraca.keys.v1.keys_pb2 import PublicKey
from catraca.queue.v1.queue_pb2 import Draw, GetReceiptResponse, InclusionProof, Place

DRAW_FORMAT, RECEIPT_FORMAT = "catraca-draw-1", "catraca-receipt-1"


def draw_file(sale: str, draw: Draw, keys: Sequence[PublicKey]) -> dict[str, Any]:
    """The draw as it is published, and the keys that receipts verify with."""
    return {
        "format": DRAW_FORMAT,
        "sale": sale,
        "commitment": draw.commitment,
        "cohort": draw.cohort,
        "frozen_at": draw.frozen_at.ToJsonString() if draw.HasField("frozen_at") else None,
        "root": draw.root,
        "last": _proof(draw.last) if draw.HasField("last") else None,
        "root_at": draw.root_at.ToJsonString() if draw.HasField("root_at") else None,
        "seed": draw.seed,
        "beacon_value": draw.beacon,
        "beacon": _beacon(draw) if draw.beacon_source else None,
        "receipt_keys": [
            {
                "id": key.key_id,
                "public": key.ed25519_public_key.hex(),
                "revoked": key.HasField("revoked_at"),
            }
            for key in keys
        ],
    }


def _beacon(draw: Draw) -> dict[str, Any]:
    found = draw.beacon_round
    return {
        "source": draw.beacon_source,
        "round": found.round,
        "signature": found.signature.hex(),
        "public_key": found.public_key.hex(),
        "period_s": found.period_s,
        "genesis_s": found.genesis_s,
        "group_hash": found.group_hash.hex(),
        "beacon_id": found.beacon_id,
        "scheme": found.scheme,
    }


def _proof(proof: InclusionProof) -> dict[str, Any]:
    return {"salted_id": proof.salted_buyer.hex(), "path": [node.hex() for node in proof.path]}


def receipt_file(sale: str, answer: GetReceiptResponse, place: Place) -> dict[str, Any]:
    """A buyer's receipt, their index in it, the place they were told and their path to the root."""
    return {
        "format": RECEIPT_FORMAT,
        "sale": sale,
        "index": place.index,
        "place": place.place if place.HasField("place") else None,
        "body": answer.receipt.body.hex(),
        "signature": answer.receipt.signature.hex(),
        "key_id": answer.receipt.key_id,
        "proof": _proof(answer.proof)["path"] if answer.HasField("proof") else None,
    }
