"""The trees of the sales' cohorts, one per sale: grown while buyers join, asked for proofs after."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from catraca.queue.v1 import queue_pb2

from services.kit.errors import Refusal
from services.queue.draw import Tree, salted_id
from services.queue.store import LineStore

# Members read and hashed at once: a few milliseconds of the event loop.
STEP = 4000

SaltOf = Callable[[str], Awaitable[bytes]]


class Trees:
    """Grown from what the store has of each cohort."""

    def __init__(self, store: LineStore, salt_of: SaltOf, epoch_of: Callable[[str], int]) -> None:
        """`epoch_of` is the filling of the store as it was last seen: another one makes another tree."""
        self._store = store
        self._salt_of = salt_of
        self._epoch_of = epoch_of
        self._trees: dict[str, tuple[int, Tree]] = {}
        self._last: dict[str, queue_pb2.InclusionProof] = {}
        self._growing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def grown(self, sale: str, size: int) -> Tree:
        """The tree over the first `size` members. Raises Refusal where the store does not have them."""
        async with self._growing[sale]:
            salt = await self._salt_of(sale)
            tree = self._known(sale, size)
            while tree.size < size:
                members = await self._store.members(sale, tree.size, min(STEP, size - tree.size))
                if not members:
                    raise Refusal("SALE_NOT_LOADED", sale=sale)
                tree.extend(salt, members)
            return tree

    async def proof(self, sale: str, cohort: int, index: int) -> queue_pb2.InclusionProof:
        """That an index of the cohort stands in its tree. Raises Refusal as `grown`."""
        tree, salt = await self.grown(sale, cohort), await self._salt_of(sale)
        first = index - index % Tree.BLOCK
        block = await self._store.members(sale, first, min(Tree.BLOCK, cohort - first))
        try:
            path = tree.path(salt, index, block)
        except ValueError:
            # The store was filled anew meanwhile; whoever asks again gets the tree of what it has now.
            self.forget(sale)
            raise Refusal("SALE_NOT_LOADED", sale=sale) from None
        salted = salted_id(salt, block[index - first])
        return queue_pb2.InclusionProof(index=index, salted_buyer=salted, path=path)

    async def last(self, sale: str, cohort: int) -> queue_pb2.InclusionProof:
        """The proof of the cohort's last index; made once, as everyone who checks a draw asks for it."""
        known = self._last.get(sale)
        if known is None or known.index != cohort - 1:
            known = self._last[sale] = await self.proof(sale, cohort, cohort - 1)
        return known

    def forget(self, sale: str) -> None:
        """Lets go of a sale's."""
        self._trees.pop(sale, None)
        self._last.pop(sale, None)
        self._growing.pop(sale, None)

    def _known(self, sale: str, size: int) -> Tree:
        """What was grown so far, unless the store has been filled anew or has lost members since."""
        epoch = self._epoch_of(sale)
        known = self._trees.get(sale)
        if known is None or known[0] != epoch or known[1].size > size:
            known = self._trees[sale] = epoch, Tree()
            self._last.pop(sale, None)
        return known[1]
