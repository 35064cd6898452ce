"""The draw, as anyone can repeat it: commitment, Merkle root over the cohort, key, permutation of places.

docs/draw.md says the same for those who check, with vectors; local/draw_verifier.py follows that page alone.

Byte encoding. Integers are unsigned and big-endian; `u64` is 8 bytes, `u8` is one; `‖` joins bytes.

- seed: 32 random bytes, made when the sale is defined. commitment = SHA-256(seed), published at once.
- salt: 32 random bytes of the sale. salted id = SHA-256(salt ‖ buyer), the buyer as 16 bytes of internal id.
- leaf(index) = SHA-256(0x00 ‖ index u64 ‖ salted id); node = SHA-256(0x01 ‖ left ‖ right).
  The tree is RFC 6962's: of n > 1 leaves the left subtree takes the largest power of two below n. The root of
  one leaf is the leaf, the root of none is SHA-256 of no bytes. Leaves stand in index order, 0 to cohort − 1;
  who left the lobby keeps the index, so nothing shifts.
- key = HMAC-SHA-256(seed, root ‖ beacon); the beacon is empty where none is configured.
- place = permutation of the index over [0, N), N being the cohort: with a = the smallest even integer of at
  least √N (2 at least) and b = ⌈N / a⌉ write x = left·b + right, left < a, right < b. Twelve rounds i = 0…11:
  for even i: left = (left + F(i, right)) mod a; for odd i: right = (right + F(i, left)) mod b, where
  F(i, v) = BLAKE2b(u8 i ‖ v u64, key = the draw's key, 8 bytes of digest) as u64. Then x = left·b + right;
  while x ≥ N the twelve rounds are applied again (cycle-walking). The first radix is even because with two
  odd ones every round would be an even permutation, and half of all orders could never be drawn.

Every round's function has only a or b different arguments, about √N, so all of them are computed once: after
that a place costs a dozen additions, and a million buyers learn theirs in about a second.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable, Sequence

ROUNDS = 12
BUYER_BYTES = 16


def commitment(seed: bytes) -> str:
    """What is published of the seed before the lobby opens: its SHA-256, hexadecimal."""
    return hashlib.sha256(seed).hexdigest()


def salted_id(salt: bytes, buyer: bytes) -> bytes:
    """A buyer's name in the published tree: 32 bytes from which the internal id cannot be guessed."""
    return hashlib.sha256(salt + buyer).digest()


def leaf(index: int, salted: bytes) -> bytes:
    """The tree's leaf for one index of the cohort."""
    return hashlib.sha256(b"\x00" + index.to_bytes(8, "big") + salted).digest()


def draw_key(seed: bytes, root: bytes, beacon: bytes = b"") -> bytes:
    """The permutation's key: nobody knows it before the cohort is frozen, not even who made the seed."""
    return hmac.new(seed, root + beacon, hashlib.sha256).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _above(nodes: Sequence[bytes]) -> list[bytes]:
    """The next level: pairs are hashed together, and who is left alone goes up as it is."""
    above = [_node(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
    if len(nodes) % 2:
        above.append(nodes[-1])
    return above


def _levels(nodes: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Nodes, what stands above them, and so on up to the one that stands above all; at least one node."""
    levels = [nodes]
    while len(levels[-1]) > 1:
        levels.append(_above(levels[-1]))
    return levels


def _top(nodes: Sequence[bytes]) -> bytes:
    return _levels(nodes)[-1][0]


def _path(position: int, levels: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The siblings on the way up from a node, as far as there are any."""
    siblings = ((level, (position >> height) ^ 1) for height, level in enumerate(levels))
    return [level[sibling] for level, sibling in siblings if sibling < len(level)]


class Tree:
    """The cohort's Merkle tree, grown leaf by leaf so that at opening only the last joins are left to add.

    Of whole blocks of `BLOCK` leaves the roots alone are kept, and what stands above them: less than a
    megabyte for a million buyers. A path is made from that and the members of one block.
    """

    BLOCK = 256

    def __init__(self) -> None:
        """An empty tree."""
        self.size = 0
        self._blocks: list[bytes] = []
        self._open: list[bytes] = []
        # Above the blocks; empty until a path is asked for, and again when the tree has grown.
        self._above: list[Sequence[bytes]] = []

    def extend(self, salt: bytes, buyers: Iterable[bytes]) -> None:
        """Appends buyers by their internal ids (16 bytes each), in index order."""
        self._above = []
        for buyer in buyers:
            self._open.append(leaf(self.size, salted_id(salt, buyer)))
            self.size += 1
            if len(self._open) == self.BLOCK:
                self._blocks.append(_top(self._open))
                self._open = []

    def root(self) -> bytes:
        """The root over all leaves so far."""
        tops = self._tops()
        return _top(tops) if tops else hashlib.sha256(b"").digest()

    def path(self, salt: bytes, index: int, block: Sequence[bytes]) -> list[bytes]:
        """The path from an index to the root; `block` are the buyers from index − index mod BLOCK on.

        Raises ValueError for an index outside the tree, or a block that is not the one the tree has.
        """
        if not 0 <= index < self.size:
            raise ValueError("the index is outside the tree")
        self._above = self._above or _levels(self._tops())
        number, position = divmod(index, self.BLOCK)
        first = number * self.BLOCK
        leaves = [leaf(first + at, salted_id(salt, buyer)) for at, buyer in enumerate(block)]
        within = _levels(leaves) if leaves else [[b""]]
        if within[-1][0] != self._above[0][number]:
            raise ValueError("the block is not the tree's")
        return _path(position, within) + _path(number, self._above)

    def _tops(self) -> list[bytes]:
        """The roots of all blocks, the open one's too."""
        return [*self._blocks, _top(self._open)] if self._open else self._blocks


def merkle_root(salt: bytes, buyers: Iterable[bytes]) -> bytes:
    """The root over a whole cohort at once."""
    tree = Tree()
    tree.extend(salt, buyers)
    return tree.root()


class Permutation:
    """A keyed bijection of [0, size): index to place, and back."""

    def __init__(self, key: bytes, size: int) -> None:
        """Computes the round tables, about 12·√size hashes.

        `key` is the draw's key, `size` the cohort, at least 1.
        """
        if size < 1:
            raise ValueError("a permutation needs at least one element")
        self.size = size
        half = math.isqrt(size - 1) + 1
        self._a = max(2, half + half % 2)
        self._b = -(-size // self._a)
        self._rounds = [
            _round_table(key, i, self._b, self._a) if i % 2 == 0 else _round_table(key, i, self._a, self._b)
            for i in range(ROUNDS)
        ]

    def place(self, index: int) -> int:
        """The place drawn for an index."""
        a, b, size, rounds = self._a, self._b, self.size, self._rounds
        if not 0 <= index < size:
            raise ValueError("the index is outside the cohort")
        x = index
        while True:
            left, right = divmod(x, b)
            for i in range(0, ROUNDS, 2):
                left = (left + rounds[i][right]) % a
                right = (right + rounds[i + 1][left]) % b
            x = left * b + right
            if x < size:
                return x

    def index(self, place: int) -> int:
        """The index that drew a place: the inverse of `place`."""
        a, b, size, rounds = self._a, self._b, self.size, self._rounds
        if not 0 <= place < size:
            raise ValueError("the place is outside the cohort")
        x = place
        while True:
            left, right = divmod(x, b)
            for i in range(ROUNDS - 1, 0, -2):
                right = (right - rounds[i][left]) % b
                left = (left - rounds[i - 1][right]) % a
            x = left * b + right
            if x < size:
                return x


def _round_table(key: bytes, number: int, arguments: int, radix: int) -> list[int]:
    """One round's function for all of its arguments, reduced to the radix it is added in."""
    prefix = bytes([number])
    blake2b = hashlib.blake2b
    return [
        int.from_bytes(blake2b(prefix + v.to_bytes(8, "big"), key=key, digest_size=8).digest(), "big") % radix
        for v in range(arguments)
    ]
