"""The draw: every place once, none likelier than another, and the tree that everyone can compute."""

import hashlib
import hmac
import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.draw_verifier import root_by_path
from services.queue.draw import Permutation, Tree, commitment, draw_key, leaf, merkle_root, salted_id


def key_of(number: int) -> bytes:
    return hashlib.sha256(b"test key %d" % number).digest()


def chi_square(counts: Counter[object], cells: int) -> float:
    expected = counts.total() / cells
    seen = sum((count - expected) ** 2 / expected for count in counts.values())
    return seen + expected * (cells - len(counts))


@pytest.mark.parametrize("size", [*range(1, 65), 99, 100, 101, 1023, 1024, 1025, 4999])
def test_every_index_has_a_place_of_its_own_and_back(size: int) -> None:
    permutation = Permutation(key_of(size), size)

    places = [permutation.place(index) for index in range(size)]

    assert sorted(places) == list(range(size))
    assert [permutation.index(place) for place in places] == list(range(size))


@given(st.integers(1, 5_000_000), st.integers(0, 1000), st.data())
def test_the_inverse_undoes_it_at_any_size(size: int, number: int, data: st.DataObject) -> None:
    permutation = Permutation(key_of(number), size)
    index = data.draw(st.integers(0, size - 1))

    place = permutation.place(index)

    assert 0 <= place < size
    assert permutation.index(place) == index


def test_outside_the_cohort_there_is_no_place() -> None:
    permutation = Permutation(key_of(0), 10)
    for outside in (-1, 10):
        with pytest.raises(ValueError, match="outside"):
            permutation.place(outside)
        with pytest.raises(ValueError, match="outside"):
            permutation.index(outside)
    with pytest.raises(ValueError, match="at least one"):
        Permutation(key_of(0), 0)


# The 99.9999 % quantiles of chi-square: with fixed keys the test always comes to the same.
@pytest.mark.parametrize(("size", "bound"), [(2, 23.9), (3, 35.9), (4, 67.5), (5, 207.0)])
def test_in_small_cohorts_every_order_is_as_likely_as_any_other(size: int, bound: float) -> None:
    orders = list(itertools.permutations(range(size)))
    draws = 200 * len(orders)
    counts: Counter[object] = Counter()
    for number in range(draws):
        permutation = Permutation(key_of(number), size)
        counts[tuple(permutation.place(index) for index in range(size))] += 1

    assert chi_square(counts, len(orders)) < bound


def test_both_parities_are_drawn_in_a_cohort_of_odd_square_size() -> None:
    def odd(permutation: Permutation) -> bool:
        places = [permutation.place(index) for index in range(9)]
        return sum(a > b for a, b in itertools.combinations(places, 2)) % 2 == 1

    share = sum(odd(Permutation(key_of(number), 9)) for number in range(1000)) / 1000

    assert 0.42 < share < 0.58


def test_who_came_first_stands_anywhere() -> None:
    cells, draws, size = 10, 3000, 1000
    first: Counter[object] = Counter()
    last: Counter[object] = Counter()
    for number in range(draws):
        permutation = Permutation(key_of(number), size)
        first[permutation.place(0) * cells // size] += 1
        last[permutation.place(size - 1) * cells // size] += 1

    # The 99.9999 % quantile with 9 degrees of freedom.
    assert chi_square(first, cells) < 46.0
    assert chi_square(last, cells) < 46.0


def test_places_are_uniform_and_independent_of_arrival() -> None:
    """Whole draws of fixed seeds: when one came, and when one's neighbour did, says nothing of a place."""
    cells, draws, size, width = 8, 400, 240, 30
    where: Counter[object] = Counter()
    neighbours: Counter[object] = Counter()
    for number in range(draws):
        seed, buyers = key_of(number), [b"%016d" % (number * size + each) for each in range(size)]
        key = draw_key(seed, merkle_root(seed[::-1], buyers))
        permutation = Permutation(key, size)
        cell_of = [permutation.place(index) // width for index in range(size)]
        where.update((index // width, cell) for index, cell in enumerate(cell_of))
        neighbours.update(zip(cell_of[::2], cell_of[1::2], strict=True))

    # With 49 degrees of freedom, as each row and column has a fixed sum, the 99.9999 % quantile is 111.6.
    # Two who come one after the other share a cell a little less often than others: 29 of 239 times.
    assert chi_square(where, cells * cells) < 111.6
    expected = {
        (a, b): draws * size / 2 / cells * (width - (a == b)) / (size - 1)
        for a in range(cells)
        for b in range(cells)
    }
    seen = sum((neighbours[pair] - count) ** 2 / count for pair, count in expected.items())
    assert seen < 131.8


def test_one_bit_of_the_key_changes_the_order() -> None:
    key = key_of(1)
    other = bytes([key[0] ^ 1]) + key[1:]
    one, two = Permutation(key, 1000), Permutation(other, 1000)

    same = sum(one.place(index) == two.place(index) for index in range(1000))

    assert same < 15


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100])
def test_the_tree_is_the_one_of_the_rfc_however_it_grows(size: int) -> None:
    salt = b"s" * 32
    buyers = [hashlib.md5(b"%d" % number).digest() for number in range(size)]
    expected = naive_root(
        [
            hashlib.sha256(
                b"\x00" + index.to_bytes(8, "big") + hashlib.sha256(salt + buyer).digest()
            ).digest()
            for index, buyer in enumerate(buyers)
        ]
    )

    grown = Tree()
    grown.extend(salt, buyers[: size // 3])
    grown.extend(salt, buyers[size // 3 :])

    assert merkle_root(salt, buyers) == expected
    assert grown.root() == expected
    assert grown.size == size


@pytest.mark.parametrize("size", [1, 2, 5, 255, 256, 257, 512, 1100])
def test_every_leaf_has_a_path_to_the_root(size: int) -> None:
    salt, block = b"s" * 32, Tree.BLOCK
    buyers = [hashlib.md5(b"%d" % number).digest() for number in range(size)]
    tree = Tree()
    tree.extend(salt, buyers)

    for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        first = index - index % block
        path = tree.path(salt, index, buyers[first : first + block])
        found = leaf(index, salted_id(salt, buyers[index]))
        assert root_by_path(index, size, found, path) == tree.root()
    with pytest.raises(ValueError, match="outside"):
        tree.path(salt, size, buyers[-1:])
    with pytest.raises(ValueError, match="block"):
        tree.path(salt, 0, [b"x" * 16, *buyers[1:block]])
    with pytest.raises(ValueError, match="block"):
        tree.path(salt, 0, [])


def test_the_parts_are_what_their_description_says() -> None:
    assert commitment(b"\x01" * 32) == hashlib.sha256(b"\x01" * 32).hexdigest()
    assert salted_id(b"salt", b"buyer") == hashlib.sha256(b"saltbuyer").digest()
    assert leaf(258, b"x") == hashlib.sha256(b"\x00" + bytes([0] * 6 + [1, 2]) + b"x").digest()
    assert draw_key(b"seed", b"root", b"beacon") == hmac.digest(b"seed", b"rootbeacon", "sha256")


def test_the_permutation_is_the_published_one() -> None:
    """Fixed vectors: another implementation of the description comes to the same."""

    def described(key: bytes, size: int, index: int) -> int:
        a = 2
        while a * a < size:
            a += 2
        b = (size + a - 1) // a

        def f(i: int, v: int) -> int:
            data = bytes([i]) + v.to_bytes(8, "big")
            return int.from_bytes(hashlib.blake2b(data, key=key, digest_size=8).digest(), "big")

        x = index
        while True:
            left, right = x // b, x % b
            for i in range(12):
                if i % 2 == 0:
                    left = (left + f(i, right)) % a
                else:
                    right = (right + f(i, left)) % b
            x = left * b + right
            if x < size:
                return x

    for size in (1, 2, 3, 7, 100, 1000):
        permutation = Permutation(key_of(size), size)
        for index in range(min(size, 50)):
            assert permutation.place(index) == described(key_of(size), size, index)
