"""The issuer's keys: how they follow one another, and that nothing outlives the key that signed it."""

import os
import time
from pathlib import Path

import jwt
import pytest

from local.issuer import ring
from local.issuer.keeper import Keeper
from local.issuer.ring import LONGEST_TTL_S
from local.issuer.tokens import Minter
from tests.integration.local.conftest import ISSUER, SECRET, Client


def ids(minter: Minter) -> list[str]:
    return [key["kid"] for key in minter.jwks()["keys"]]


def signer(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def rotated(client: Client, secret: str = SECRET, **form: str) -> int:
    answer = await client.post("/keys/rotate", data=form, headers={"Authorization": f"Bearer {secret}"})
    return answer.status


async def test_the_next_key_is_published_before_it_signs(client: Client, minter: Minter) -> None:
    before = ids(minter)
    assert signer(minter.mint("ana")) == before[1]
    assert await rotated(client) == 200
    after = ids(minter)
    assert after[1:] == before, "what was coming signs, what signed is still published"
    assert signer(minter.mint("ana")) == before[0]
    published = await (await client.get("/jwks.json")).json()
    assert [key["kid"] for key in published["keys"]] == after
    assert all("d" not in key for key in published["keys"])


async def test_who_mints_elsewhere_signs_with_the_new_key(
    client: Client, minter: Minter, tmp_path: Path
) -> None:
    elsewhere = Minter(tmp_path / "issuer.json", ISSUER)
    assert signer(elsewhere.mint("ana")) == signer(minter.mint("ana"))
    await rotated(client)
    assert signer(elsewhere.mint("ana")) == signer(minter.mint("ana"))


async def test_withdrawing_replaces_every_key(client: Client, minter: Minter, tmp_path: Path) -> None:
    before = set(ids(minter))
    assert await rotated(client, withdraw="1") == 200
    assert before.isdisjoint(ids(minter))
    assert signer((tmp_path / "token.jwt").read_text()) == ids(minter)[1]


@pytest.mark.parametrize("secret", ["", "wrong", "développement"])
async def test_strangers_rotate_nothing(client: Client, minter: Minter, secret: str) -> None:
    before = ids(minter)
    assert await rotated(client, secret) == 401
    assert ids(minter) == before


def test_keys_rotate_by_age(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(keeper.minter)
    keeper.look()
    assert ids(keeper.minter) == before
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    keeper.look()
    assert ids(keeper.minter)[1:] == before
    keeper.look()
    assert ids(keeper.minter)[1:] == before


def test_a_retired_key_is_forgotten_when_its_tokens_are_over(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    retired = keeper.minter.key_id
    last = keeper.minter.mint("ana", ttl_s=LONGEST_TTL_S)
    keeper.rotate()
    now = time.time()
    ends = jwt.decode(last, options={"verify_signature": False})["exp"]
    monkeypatch.setattr(ring.time, "time", lambda: ends - 5)
    keeper.minter.ring.prune()
    assert retired in ids(keeper.minter)
    monkeypatch.setattr(ring.time, "time", lambda: now + LONGEST_TTL_S + 1)
    keeper.minter.ring.prune()
    assert retired not in ids(keeper.minter) and len(ids(keeper.minter)) == 2


def test_the_services_token_is_renewed_in_time(keeper: Keeper, tmp_path: Path) -> None:
    file = tmp_path / "token.jwt"
    keeper.look()
    file.unlink()
    keeper.look()
    fresh = file.stat().st_mtime_ns
    keeper.look()
    assert file.stat().st_mtime_ns == fresh
    old = time.time() - LONGEST_TTL_S / 2 - 1
    os.utime(file, (old, old))
    keeper.look()
    assert file.stat().st_mtime > old + 1
    keeper.rotate()
    assert signer(file.read_text()) == keeper.minter.key_id


def test_no_token_outlives_its_key(minter: Minter) -> None:
    with pytest.raises(ValueError, match="lives at most"):
        minter.mint("ana", ttl_s=LONGEST_TTL_S + 1)


def test_the_file_is_private(minter: Minter, tmp_path: Path) -> None:
    minter.mint("ana")
    assert (tmp_path / "issuer.json").stat().st_mode & 0o077 == 0
