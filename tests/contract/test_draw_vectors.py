"""docs/draw-vectors.json is what our draw makes, and what the verifier comes to by docs/draw.md."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local import draw_verifier
from tests.contract.draw_vectors import vectors

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "docs" / "draw-vectors.json").read_text())
FILES = pytest.mark.parametrize("files", VECTORS["files"], ids=["without a beacon", "with a beacon"])


def test_our_own_code_makes_them() -> None:
    assert vectors() == VECTORS


@pytest.mark.parametrize("draw", VECTORS["draws"], ids=lambda draw: len(draw["buyers"]))
def test_the_verifier_comes_to_the_same_draw(draw: dict[str, Any]) -> None:
    seed, salt, root, beacon = (bytes.fromhex(draw[name]) for name in ("seed", "salt", "root", "beacon"))
    salted = [draw_verifier.salted_id(salt, bytes.fromhex(buyer)) for buyer in draw["buyers"]]
    size = len(salted)

    assert draw_verifier.commitment(seed) == draw["commitment"]
    assert [each.hex() for each in salted] == draw["salted_ids"]
    assert draw_verifier.root_of(salted) == root
    for index, path in enumerate(draw["paths"]):
        nodes = [bytes.fromhex(each) for each in path]
        leaf = draw_verifier.leaf(index, salted[index])
        assert draw_verifier.root_by_path(index, size, leaf, nodes) == root
        assert draw_verifier.root_by_path(index, size, leaf, [*nodes, root]) is None
        if nodes:
            assert draw_verifier.root_by_path(index, size, leaf, nodes[:-1]) is None
            assert draw_verifier.root_by_path(index, size, leaf, [root, *nodes[1:]]) != root
        for other in {index - 1, index + 1} & set(range(size)):
            assert draw_verifier.root_by_path(other, size, leaf, nodes) != root
    key = draw_verifier.draw_key(seed, root, beacon)
    assert key.hex() == draw["key"]
    if size:
        places = draw_verifier.Places(key, size)
        assert [places.of(index) for index in range(size)] == draw["places"]


@pytest.mark.parametrize("draw", VECTORS["large"], ids=lambda draw: draw["cohort"])
def test_the_verifier_comes_to_the_same_places_in_large_cohorts(draw: dict[str, Any]) -> None:
    places = draw_verifier.Places(bytes.fromhex(draw["key"]), draw["cohort"])
    assert [[index, places.of(index)] for index, _ in draw["places"]] == draw["places"]


@FILES
def test_a_true_receipt_gives_its_place(files: dict[str, Any]) -> None:
    verdict = draw_verifier.verify(files["draw"], files["receipt"])
    assert verdict.ok, verdict
    assert verdict.place == files["place"]
    assert draw_verifier.verify(files["draw"]).ok


@FILES
def test_whoever_joined_after_the_freeze_stands_behind(files: dict[str, Any]) -> None:
    draw = files["draw"]
    receipt = {**files["receipt"], "proof": None, "place": 7}
    checks = draw_verifier.check_receipt({**draw, "cohort": 5}, receipt)
    assert all(check.holds for check in checks)
    assert draw_verifier.place_of({**draw, "cohort": 5}, 7) == 7


def in_draw(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(files: dict[str, Any]) -> None:
        files["draw"][name] = value

    return change


def in_receipt(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(files: dict[str, Any]) -> None:
        files["receipt"][name] = value

    return change


def in_beacon(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(files: dict[str, Any]) -> None:
        files["draw"]["beacon"][name] = value

    return change


def another_signature(files: dict[str, Any]) -> None:
    """A round that the chain never signed, whose value the draw's maker liked better."""
    forged = "b" + files["draw"]["beacon"]["signature"][1:-1] + "0"
    files["draw"]["beacon"]["signature"] = forged
    files["draw"]["beacon_value"] = draw_verifier.hashlib.sha256(bytes.fromhex(forged)).hexdigest()


def a_beacon_left_out(files: dict[str, Any]) -> None:
    files["draw"]["beacon"], files["draw"]["beacon_value"] = None, ""


def a_revoked_key(files: dict[str, Any]) -> None:
    files["draw"]["receipt_keys"][0]["revoked"] = True


def a_word_in_the_body(files: dict[str, Any]) -> None:
    body = files["receipt"]["body"]
    files["receipt"]["body"] = body[:-2] + ("00" if body[-2:] != "00" else "01")


@pytest.mark.parametrize(
    ("beacon", "change", "says"),
    [
        (False, in_draw("seed", "01" * 32), "the seed is the one that was committed to"),
        (False, in_draw("commitment", "01" * 32), "it promised this draw"),
        (False, in_draw("root", "01" * 32), "that buyer stands in the published root"),
        (False, in_draw("cohort", 34), "the published root is over 34 buyers"),
        (False, in_draw("cohort", 32), "the published root is over 32 buyers"),
        (False, in_draw("cohort", 0), "the published root is over 0 buyers"),
        (False, in_draw("sale", "another-sale"), "it is of this sale"),
        (False, in_draw("receipt_keys", []), "a published key signed the receipt"),
        (False, in_draw("beacon_value", "01" * 32), "no beacon was announced"),
        (False, a_revoked_key, "a published key signed the receipt"),
        (False, a_word_in_the_body, "a published key signed the receipt"),
        (False, in_receipt("index", 6), "that buyer stands in the published root"),
        (False, in_receipt("index", 9), "it gives the index 9 to one buyer"),
        (False, in_receipt("proof", []), "that buyer stands in the published root"),
        (False, in_receipt("place", 32), "the place that was told, 32, is the one drawn"),
        (True, in_beacon("round", 1001), "its round is the first after the root was published, 1000"),
        (True, in_beacon("period_s", 30), "the beacon's key is the one of the chain that was announced"),
        (True, in_beacon("public_key", "01" * 96), "the beacon's key is the one of the chain"),
        (True, in_beacon("source", "drand:" + "01" * 32), "it promised this draw"),
        (True, in_draw("root_at", "2023-08-23T15:59:24Z"), "its round is the first after the root"),
        (True, in_draw("beacon_value", "01" * 32), "its value is the hash of the round's signature"),
        (True, another_signature, "the round was signed by the chain"),
        (True, a_beacon_left_out, "it promised this draw"),
    ],
)
def test_what_is_wrong_is_named(beacon: bool, change: Callable[[dict[str, Any]], None], says: str) -> None:
    files = copy.deepcopy(VECTORS["files"][beacon])
    change(files)
    verdict = draw_verifier.verify(files["draw"], files["receipt"])
    wrong = [check.says for check in verdict.checks if not check.holds]
    assert any(each.startswith(says) for each in wrong), wrong
    assert verdict.place is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (in_draw("seed", ""), "has not taken place yet"),
        (in_draw("format", "another"), "not of the format"),
        (in_draw("seed", "no hex"), "malformed"),
        (in_draw("seed", None), "has not taken place yet"),
        (in_draw("beacon_value", 5), "malformed"),
        (in_draw("cohort", "many"), "malformed"),
        (in_receipt("format", "another"), "not of the format"),
        (in_receipt("index", -1), "malformed"),
        (in_receipt("index", "7"), "malformed"),
        (in_receipt("body", "ff"), "malformed"),
        (in_receipt("body", "0aff"), "malformed"),
        (in_receipt("signature", 7), "malformed"),
    ],
)
def test_what_cannot_be_read_is_no_verdict(change: Callable[[dict[str, Any]], None], says: str) -> None:
    files = copy.deepcopy(VECTORS["files"][0])
    change(files)
    with pytest.raises(draw_verifier.Unreadable, match=says):
        draw_verifier.verify(files["draw"], files["receipt"])


def test_the_file_works_by_itself(tmp_path: Path) -> None:
    """Taken out of the repository, as somebody who checks would."""
    alone = tmp_path / "draw_verifier.py"
    alone.write_text((ROOT / "local" / "draw_verifier.py").read_text())
    files = copy.deepcopy(VECTORS["files"][1])
    for name in ("draw", "receipt"):
        (tmp_path / f"{name}.json").write_text(json.dumps(files[name]))

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", alone.name, "draw.json", "--receipt", "receipt.json"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    good = check()
    assert good.returncode == 0, good.stderr
    assert f"place {files['place']} of the 33 of the draw of stadium-final" in good.stdout
    files["draw"]["root"] = "01" * 32
    (tmp_path / "draw.json").write_text(json.dumps(files["draw"]))
    bad = check()
    assert bad.returncode == 1 and "WRONG that buyer stands in the published root" in bad.stdout
    (tmp_path / "draw.json").write_text("[]")
    unreadable = check()
    assert unreadable.returncode == 2 and not unreadable.stdout and "unreadable" in unreadable.stderr
