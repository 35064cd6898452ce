"""Rings that change while a process runs: which key makes, which check, and what a bad file does."""

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from catraca.queue.v1.queue_pb2 import AdmissionClaims
from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, Sale
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from local.private import Entry, new_signing, new_symmetric, write_entries
from services.kit import admission, key_file
from services.kit.errors import Refusal
from services.kit.identity import Buyer, buyer_key
from services.kit.keys import KeyRing, LiveRing, SymmetricKey
from services.kit.settings import SettingError
from services.kit.signing import LiveSigningRing, SigningKey, SigningRing, load_signing_ring, verifies

NOW = 1_000_000.0


class Clock:
    """Both clocks of a process, moved by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time", made.time)
    monkeypatch.setattr(key_file.time, "monotonic", made.monotonic)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ring.json"


def symmetric(active_from: float = 0.0) -> Entry:
    return new_symmetric(NOW) | {"active_from": active_from}


def signing(active_from: float) -> Entry:
    return new_signing(NOW) | {"active_from": active_from}


def pem_of(key: Any) -> str:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def test_a_new_key_checks_before_it_makes(path: Path, clock: Clock) -> None:
    old, new = symmetric(), symmetric(NOW + 10)
    write_entries(path, [old])
    ring = LiveRing(path, "admission_key_file")
    write_entries(path, [new, old])
    assert ring.newest.id == old["id"]
    clock.at += 9.9
    assert ring.newest.id == old["id"]
    assert ring.get(new["id"]) is not None
    clock.at += 0.1
    assert ring.newest.id == new["id"]
    assert ring.get(old["id"]) is not None
    assert ring.oldest.id == old["id"]


def test_a_replica_that_reads_later_takes_what_another_made(path: Path, clock: Clock) -> None:
    write_entries(path, [symmetric()])
    late, early = (LiveRing(path, "admission_key_file") for _ in range(2))
    write_entries(path, [symmetric(NOW), symmetric()])
    clock.at += key_file.LOOK_AGAIN_S
    claims = AdmissionClaims(sale="show", buyer="b", place=1)
    token = admission.mint(claims, early)
    # Just before its own time to look again has come.
    clock.at -= key_file.LOOK_AGAIN_S / 2
    assert admission.verify(token, late, sale="show", buyer="b") == claims


def test_a_key_that_is_gone_is_refused_by_name(path: Path, clock: Clock) -> None:
    old = symmetric()
    write_entries(path, [symmetric(NOW), old])
    ring = LiveRing(path, "admission_key_file")
    token = admission.mint(
        AdmissionClaims(sale="show"), KeyRing((SymmetricKey(old["id"], bytes.fromhex(old["key"])),))
    )
    admission.verify(token, ring, sale="show", buyer="")
    write_entries(path, [symmetric(NOW)])
    clock.at += key_file.LOOK_AGAIN_S
    with pytest.raises(Refusal, match="ADMISSION_INVALID"):
        admission.verify(token, ring, sale="show", buyer="")


@pytest.mark.parametrize("content", ["", "[]", '[{"id": "a", "key": "abcd"}]', None])
def test_a_file_that_went_bad_takes_no_key_away(path: Path, clock: Clock, content: str | None) -> None:
    kept, next_one = symmetric(), symmetric()
    write_entries(path, [kept])
    ring = LiveRing(path, "admission_key_file")
    with capture_logs() as logs:
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        clock.at += key_file.LOOK_AGAIN_S
        assert ring.newest.id == kept["id"]
        clock.at += key_file.LOOK_AGAIN_S
        assert ring.get("unknown") is None
    problems = [each for each in logs if each["event"] == "keys_not_read"]
    assert len(problems) == 1, "told once for each content, not at every look"
    assert problems[0]["problem"].startswith("CATRACA_ADMISSION_KEY_FILE is ")
    assert kept["key"] not in str(logs)
    write_entries(path, [next_one])
    clock.at += key_file.LOOK_AGAIN_S
    assert ring.newest.id == next_one["id"]


def test_every_ticket_key_stays_published(path: Path, clock: Clock) -> None:
    newest, old, leaked, oldest = (signing(NOW + 10 - 100 * at) for at in range(4))
    signed = {each["id"]: each["pem"] for each in (old, leaked, oldest)}
    del oldest["pem"]
    leaked["revoked_at"] = NOW - 5
    write_entries(path, [newest, old, leaked, oldest])
    ring = LiveSigningRing(path, "ticket_key_file")
    assert ring.signing.id == old["id"]
    published = ring.published()
    assert [each.key_id for each in published] == [each["id"] for each in (newest, old, leaked, oldest)]
    assert [each.signs_from.ToSeconds() for each in published] == [NOW + 10, NOW - 90, NOW - 190, NOW - 290]
    assert [each.signed_until.ToSeconds() for each in published] == [0, 0, NOW - 90, NOW - 190]
    assert [each.HasField("revoked_at") for each in published] == [False, False, True, False]
    assert [each.HasField("signed_until") for each in published] == [False, False, True, True]
    for each in published[1:]:
        private = serialization.load_pem_private_key(signed[each.key_id].encode(), password=None)
        assert isinstance(private, Ed25519PrivateKey)
        assert verifies(each.ed25519_public_key, private.sign(b"seat 7"), b"seat 7")
    clock.at += 10
    assert ring.signing.id == newest["id"]
    assert ring.published()[1].signed_until.ToSeconds() == NOW + 10


def test_a_signing_key_signs_and_verifies(path: Path) -> None:
    write_entries(path, [new_signing(0.0)])
    key = load_signing_ring(path, "ticket_key_file").signing
    signature = key.sign(b"seat 7")
    assert re.fullmatch(r"[0-9a-f]{8}", key.id)
    assert verifies(key.public, signature, b"seat 7")
    assert not verifies(key.public, signature, b"seat 8")
    assert not verifies(key.public, b"", b"seat 7")
    assert not verifies(b"short", signature, b"seat 7")


def without(entry: Entry, field: str) -> Entry:
    return {name: value for name, value in entry.items() if name != field}


ONE, OTHER = new_signing(0.0), new_signing(0.0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("-----BEGIN PRIVATE KEY-----", "no JSON"),
        ({"keys": []}, "no list"),
        ([], "no key"),
        ([ONE, ONE], "same id"),
        ([without(ONE, "id")], "`id`"),
        ([without(ONE, "public")], "`public`"),
        ([ONE | {"public": "xy"}], "`public`"),
        ([ONE | {"public": ONE["public"][2:]}], "`public`"),
        ([ONE | {"id": OTHER["id"]}], "is not the id of its public key"),
        ([ONE | {"pem": OTHER["pem"]}], "not of one pair"),
        ([ONE | {"pem": "junk"}], "`pem`"),
        ([ONE | {"pem": 7}], "`pem`"),
        ([ONE | {"pem": pem_of(generate_private_key(SECP256R1()))}], "`pem`"),
        ([without(ONE, "pem")], "no key can sign"),
        ([ONE | {"revoked_at": 1}], "no key can sign"),
        ([ONE | {"revoked_at": "yes"}], "`revoked_at`"),
        ([ONE, OTHER | {"active_from": 1}], "active before"),
    ],
)
def test_a_bad_signing_ring_names_the_setting_and_the_problem(
    path: Path, content: object, problem: str
) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SettingError, match=re.escape(problem)) as caught:
        load_signing_ring(path, "ticket_key_file")
    assert caught.value.variable == "CATRACA_TICKET_KEY_FILE"
    for secret in (ONE["pem"], OTHER["pem"]):
        assert not any(line and line in str(caught.value) for line in secret.splitlines()[1:-1])


@given(
    ages=st.lists(st.integers(-5, 5), min_size=1, max_size=6).map(lambda each: sorted(each, reverse=True)),
    lost=st.sets(st.integers(0, 5)),
)
def test_one_key_signs_at_any_time(ages: list[int], lost: set[int]) -> None:
    entries = [signing(NOW + age) for age in ages]
    keys = [
        key_of(each, can_sign=at not in lost) for at, each in enumerate(entries) if each["active_from"] >= 0
    ]
    able = [key for key in keys if key.can_sign]
    if not able:
        return
    now = time.time()
    signer = SigningRing(tuple(keys)).signing
    assert signer.can_sign
    active = [key for key in able if key.active_from <= now]
    assert signer == (active[0] if active else able[-1])


def key_of(entry: Entry, *, can_sign: bool) -> SigningKey:
    private = serialization.load_pem_private_key(entry["pem"].encode(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    return SigningKey(
        entry["id"], bytes.fromhex(entry["public"]), private if can_sign else None, entry["active_from"]
    )


@given(st.integers(1, 5), st.integers(1, 5), st.text(min_size=1, max_size=8))
def test_a_sale_keeps_its_buyers_whatever_keys_come_and_go(before: int, after: int, subject: str) -> None:
    keys = [SymmetricKey(f"k{number}", bytes([number]) * 32) for number in range(before + after)]
    bound = keys[before - 1]
    sale = Sale(sale="show", buyer_key_id=bound.id)
    first = Buyer("public", subject, KeyRing((bound,))).id_in(sale)
    rings = [KeyRing(tuple(reversed(keys[:count]))) for count in range(before, before + after + 1)]
    rings.append(KeyRing(tuple(reversed(keys[before - 1 :]))))
    assert {Buyer("public", subject, ring).id_in(sale) for ring in rings} == {first}


def test_sales_of_different_keys_know_a_buyer_by_different_ids() -> None:
    ring = KeyRing((SymmetricKey("new", b"n" * 32), SymmetricKey("old", b"o" * 32)))
    ids = {
        Buyer(namespace, subject, ring).id_in(Sale(buyer_key_id=key))
        for namespace, subject, key in itertools.product(("public", "shop"), ("ana", "bia"), ("new", "old"))
    }
    assert len(ids) == 8
    # From before sales were bound to a key.
    assert buyer_key(ring, Sale()).id == "old"


def test_a_sale_whose_key_is_not_there_is_refused_by_name() -> None:
    ring = KeyRing((SymmetricKey("new", b"n" * 32),))
    with pytest.raises(Refusal, match="UNAVAILABLE"):
        buyer_key(ring, Sale(sale="show", buyer_key_id="old"))
    with pytest.raises(Refusal, match="SALE_ARCHIVED"):
        buyer_key(ring, Sale(sale="show", buyer_key_id="old", phase=SALE_PHASE_ARCHIVED))
