"""The draw at the opening, on the real Redis: over whom, by which root and beacon, and its tree."""

import asyncio
import hashlib

import pytest

from local import draw_verifier
from local.draw_files import draw_file
from services.kit.buyers import to_text
from services.kit.errors import Refusal
from services.queue.draw import Permutation, Tree, commitment, draw_key, merkle_root
from services.queue.messages import draw_message
from services.queue.trees import Trees
from tests.drand import Chain, Relay
from tests.integration.line.leading import SECRETS, Sale, buyer, trees_of


async def test_at_opening_the_lobby_is_drawn_and_called_in_drawn_order(sale: Sale) -> None:
    await sale.define(opens_in_ms=250)
    await sale.join(*range(40))
    sale.lead("one")
    await sale.serving(40)
    await sale.join(100, 101)
    await sale.serving(42)

    facts = await sale.store.facts(sale.id, "")
    root = merkle_root(SECRETS.salt, [buyer(number) for number in range(40)])
    permutation = Permutation(draw_key(SECRETS.seed, root), 40)
    drawn = [to_text(buyer(permutation.index(place))) for place in range(40)]
    assert (facts.root, facts.seed, facts.cohort) == (root.hex(), SECRETS.seed.hex(), 40)
    assert [who for who, _, _ in sale.ledger.history] == [
        *drawn,
        to_text(buyer(100)),
        to_text(buyer(101)),
    ]
    assert drawn != [to_text(buyer(number)) for number in range(40)]


async def test_everyone_of_the_cohort_has_a_path_to_the_published_root(sale: Sale) -> None:
    size = Tree.BLOCK + 3
    sale.ledger.stock = 4 * size
    await sale.define()
    await sale.join(*range(size))
    await sale.store.leave(sale.id, [buyer(1)])
    await sale.define(opens_in_ms=-1)
    sale.lead("one")
    await sale.serving(size)
    await sale.join(size)

    root = bytes.fromhex((await sale.store.facts(sale.id, "")).root)
    # A replica that did not lead grows its own tree, for many who ask at once.
    elsewhere = trees_of(sale.store)
    indexes = [0, 1, Tree.BLOCK - 1, Tree.BLOCK, size - 1]
    proofs = await asyncio.gather(*(elsewhere.proof(sale.id, size, index) for index in indexes))
    for index, proof in zip(indexes, proofs, strict=True):
        assert proof.salted_buyer == draw_verifier.salted_id(SECRETS.salt, buyer(index))
        found = draw_verifier.leaf(index, proof.salted_buyer)
        assert draw_verifier.root_by_path(index, size, found, proof.path) == root
    assert await elsewhere.last(sale.id, size) == proofs[-1]
    with pytest.raises(Refusal, match="loaded"):
        await elsewhere.grown(sale.id, size + 2)


async def test_a_beacon_is_drawn_with_and_the_draw_waits_for_it(sale: Sale) -> None:
    async with Relay(Chain()).serving() as relay:
        sale.relays = [relay]
        sale.spec.spec.line.beacon = relay.chain.source
        sale.spec.draw_commitment = commitment(SECRETS.seed)
        await sale.define()
        await sale.join(*range(30))
        relay.silent = True
        sale.lead("one", ttl_ms=300)
        await sale.define(opens_in_ms=-1)
        await sale.until(lambda: len(relay.asked) > 1)
        await sale.stop()
        waiting = await sale.store.facts(sale.id, "")
        assert waiting.root and not waiting.seed
        assert not (await sale.store.standing(sale.id)).drawn
        # Another leader goes on with the same root and time, so with the same round.
        relay.silent = False
        sale.lead("two", ttl_ms=300)
        await sale.serving(30)

    facts = await sale.store.facts(sale.id, sale.spec.draw_commitment)
    assert (facts.root, facts.root_ms) == (waiting.root, waiting.root_ms)
    published = draw_message(facts, relay.chain.source)
    checks = list(draw_verifier.check_draw(draw_file(sale.id, published, [])))
    assert len(checks) == 5 and all(check.holds for check in checks), checks
    value = hashlib.sha256(relay.chain.sign(published.beacon_round.round)).digest()
    places = draw_verifier.Places(draw_verifier.draw_key(SECRETS.seed, bytes.fromhex(facts.root), value), 30)
    called = {who: place for who, place, _ in sale.ledger.history}
    assert called == {to_text(buyer(number)): places.of(number) for number in range(30)}


async def test_nothing_is_drawn_before_the_cohort_is_published(sale: Sale) -> None:
    """A store that is lost after it would be filled again with others in the draw, or with another round."""
    async with Relay(Chain()).serving() as relay:
        sale.relays = [relay]
        sale.spec.spec.line.beacon = relay.chain.source
        await sale.define()
        await sale.join(*range(5))
        sale.kept_upto = await sale.store.sequence(sale.id)
        await sale.define(opens_in_ms=-1)
        leader = sale.lead("one")
        frozen = sale.kept_upto + 2
        await sale.until(lambda: sale.refused > 0)
        assert (await sale.store.facts(sale.id, "")).root == ""

        sale.kept_upto, sale.refused = frozen, 0
        leader.wake()
        await sale.until(lambda: sale.refused > 0)
        assert (await sale.store.facts(sale.id, "")).root != ""
        assert relay.asked == []

        sale.kept_upto = None
        leader.wake()
        await sale.serving(5)


async def test_a_tree_is_grown_anew_over_a_store_that_was_filled_anew(sale: Sale) -> None:
    epoch = 1

    async def salt(_sale: str) -> bytes:
        return SECRETS.salt

    trees = Trees(sale.store, salt, lambda _sale: epoch)
    await sale.define()
    await sale.join(*range(5))
    assert (await trees.grown(sale.id, 5)).root() == merkle_root(SECRETS.salt, map(buyer, range(5)))
    # The tail was lost: fewer are there, and others come.
    assert (await trees.grown(sale.id, 3)).root() == merkle_root(SECRETS.salt, map(buyer, range(3)))
    before = await trees.grown(sale.id, 5)
    epoch = 2
    after = await trees.grown(sale.id, 5)
    assert after is not before and after.root() == before.root()
