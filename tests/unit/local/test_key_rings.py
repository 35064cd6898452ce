"""What `catraca keys` may do to a ring's file, and what it refuses."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catraca.sale.v1.sale_pb2 import (
    LINE_KIND_DRAW,
    SALE_PHASE_ARCHIVED,
    SALE_PHASE_OPEN,
    Line,
    Sale,
    SaleSpec,
)
from google.protobuf.duration_pb2 import Duration

from local import key_rings
from local.key_rings import Refused, retire, rotate, rows
from local.private import signing_keys, symmetric_keys, write_private
from services.kit.settings import SettingError
from services.kit.signing import load_signing_ring

AFTER_S = 10.0
PURPOSES = ("admission", "buyer-hash", "ticket", "receipt")


class Clock:
    """The machine's clock, moved by hand."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def time(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(key_rings.time, "time", made.time)
    return made


RingOf = Callable[[str], Path]


@pytest.fixture
def ring_of(tmp_path: Path, clock: Clock) -> RingOf:
    def make(purpose: str) -> Path:
        path = tmp_path / f"{purpose}.json"
        return signing_keys(path) if purpose in ("ticket", "receipt") else symmetric_keys(path)

    return make


def ids(path: Path) -> list[str]:
    return [entry["id"] for entry in json.loads(path.read_text())]


def bound(sale: str, key_id: str, phase: Any = SALE_PHASE_OPEN, turn_s: int = 300) -> Sale:
    line = Line(kind=LINE_KIND_DRAW, turn_duration=Duration(seconds=turn_s))
    return Sale(sale=sale, buyer_key_id=key_id, phase=phase, spec=SaleSpec(line=line))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_new_key_comes_before_the_others_and_is_used_later(
    ring_of: RingOf, clock: Clock, purpose: str
) -> None:
    path = ring_of(purpose)
    (first,) = ids(path)
    second = rotate(purpose, path, AFTER_S)
    assert ids(path) == [second, first]
    assert [row.state.split()[0] for row in rows(purpose, path, [], clock.at)] == ["coming", "active"]
    with pytest.raises(Refused, match=f"{second} is coming already"):
        rotate(purpose, path, AFTER_S)
    with pytest.raises(Refused, match=f"{second} is coming"):
        retire(purpose, path, second, [], withdraw=True)
    with pytest.raises(Refused, match=f"{first} makes new"):
        retire(purpose, path, first, [], withdraw=True)
    clock.at += AFTER_S
    found = rows(purpose, path, [], clock.at)
    assert [row.state for row in found] == ["active", "checks only"]
    assert found[0].used_by.startswith("new ")
    with pytest.raises(Refused, match=f"{first} may still be in use until"):
        retire(purpose, path, first, [], withdraw=True)
    third = rotate(purpose, path, AFTER_S)
    assert ids(path) == [third, second, first]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("after_s", [-1.0, 0.0, 3.9, float("nan")])
def test_no_key_is_used_before_all_know_it(ring_of: RingOf, after_s: float) -> None:
    path = ring_of("admission")
    before = path.read_bytes()
    with pytest.raises(Refused, match="every 2 s"):
        rotate("admission", path, after_s)
    assert path.read_bytes() == before


def test_an_admission_key_goes_when_its_admissions_are_over(ring_of: RingOf, clock: Clock) -> None:
    path = ring_of("admission")
    (first,) = ids(path)
    second = rotate("admission", path, AFTER_S)
    sales = [bound("long", "", turn_s=600), bound("over", "", SALE_PHASE_ARCHIVED, turn_s=6000)]
    clock.at += AFTER_S + 601
    with pytest.raises(Refused, match=f"{first} is in use by admissions until"):
        retire("admission", path, first, sales, withdraw=False)
    clock.at += 1.1
    assert rows("admission", path, sales, clock.at)[1].used_by == "nothing"
    assert retire("admission", path, first, sales, withdraw=False) == "is gone"
    assert ids(path) == [second]


def test_a_leaked_admission_key_goes_at_once(ring_of: RingOf, clock: Clock) -> None:
    path = ring_of("admission")
    (first,) = ids(path)
    rotate("admission", path, AFTER_S)
    clock.at += AFTER_S + 2
    assert retire("admission", path, first, [bound("long", "")], withdraw=True) == "is gone"


def test_a_buyer_key_goes_after_its_last_sale(ring_of: RingOf, clock: Clock) -> None:
    path = ring_of("buyer-hash")
    (first,) = ids(path)
    second = rotate("buyer-hash", path, AFTER_S)
    clock.at += AFTER_S + 2
    sales = [bound(name, first) for name in "abcd"] + [bound("e", second)]
    shown = rows("buyer-hash", path, sales, clock.at)
    assert [row.used_by for row in shown] == ["new sales, e", "a, b, c and 1 more"]
    for withdraw in (False, True):
        with pytest.raises(Refused, match=f"{first} is in use by a, b, c and 1 more"):
            retire("buyer-hash", path, first, sales, withdraw=withdraw)
    for sale in sales:
        sale.phase = SALE_PHASE_ARCHIVED
    before = bound("before", "", SALE_PHASE_ARCHIVED)
    with pytest.raises(Refused, match=f"{first} is in use by before"):
        retire("buyer-hash", path, first, [*sales, before], withdraw=False)
    assert retire("buyer-hash", path, first, sales, withdraw=False) == "is gone"
    assert ids(path) == [second]


@pytest.mark.parametrize("purpose", ["ticket", "receipt"])
def test_the_public_half_stays(ring_of: RingOf, clock: Clock, purpose: str) -> None:
    path = ring_of(purpose)
    (first,) = ids(path)
    second = rotate(purpose, path, AFTER_S)
    clock.at += AFTER_S + 2
    retire(purpose, path, first, [], withdraw=False)
    ring = load_signing_ring(path, "x")
    assert [(key.id, key.can_sign) for key in ring.keys] == [(second, True), (first, False)]
    assert [row.state for row in rows(purpose, path, [], clock.at)] == ["active", "public half only"]
    assert "BEGIN" not in json.dumps(json.loads(path.read_text())[1])
    with pytest.raises(Refused, match="retired already"):
        retire(purpose, path, first, [], withdraw=False)
    retire(purpose, path, first, [], withdraw=True)
    assert load_signing_ring(path, "x").keys[1].revoked_at == clock.at
    assert [row.state for row in rows(purpose, path, [], clock.at)] == ["active", "revoked"]
    with pytest.raises(Refused, match="retired already"):
        retire(purpose, path, first, [], withdraw=True)


def test_a_key_that_is_not_there_is_named(ring_of: RingOf) -> None:
    with pytest.raises(Refused, match="there is no ticket key feedbeef"):
        retire("ticket", ring_of("ticket"), "feedbeef", [], withdraw=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"id": "a"}]'])
def test_a_bad_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ring.json"
    path.write_text(content)
    with pytest.raises(SettingError, match="CATRACA_ADMISSION_KEY_FILE"):
        rotate("admission", path, AFTER_S)
    assert path.read_text() == content


def test_a_ticket_key_of_an_earlier_version_goes_on(tmp_path: Path, ring_of: RingOf) -> None:
    (entry,) = json.loads(ring_of("ticket").read_text())
    former = tmp_path / "former.pem"
    write_private(former, entry["pem"])
    path = signing_keys(tmp_path / "former.json")
    assert ids(path) == [entry["id"]]
    assert load_signing_ring(path, "x").signing.id == entry["id"]
    assert not former.exists()
    assert signing_keys(path) == path and ids(path) == [entry["id"]]


def test_a_file_is_written_whole_or_not_at_all(ring_of: RingOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ring_of("admission")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        rotate("admission", path, AFTER_S)
    assert path.read_bytes() == before
