"""Access codes of a sale: the organiser brings them, keyed hashes go into the line's store."""

from collections.abc import Sequence
from typing import Protocol

from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.identity import buyer_key
from services.kit.keys import Ring
from services.queue import rules
from services.queue.store import LineStore

CODES_AT_ONCE = 1000


class Known(Protocol):
    """What this needs of `services.kit.definitions.Definitions`."""

    async def latest(self, sale: str) -> Definition:
        """The definition as the bucket has it now. Raises Refusal SALE_NOT_FOUND."""


class Codes:
    """Puts codes; the line's script uses them up."""

    def __init__(self, known: Known, store: LineStore, keys: Ring) -> None:
        """`keys` are those that buyers are hashed with: a code is hashed with its sale's."""
        self._known = known
        self._store = store
        self._keys = keys

    async def put(self, sale: str, codes: Sequence[str], uses: int) -> tuple[int, int, int]:
        """How many codes are new, how many may be used more or less often now, and how many there are.

        Raises Refusal INVALID_FIELD, SALE_NOT_FOUND, SALE_ARCHIVED, NO_LINE, WRONG_PHASE, OVERLOADED.
        """
        if not 1 <= len(codes) <= CODES_AT_ONCE:
            raise Refusal("INVALID_FIELD", field="codes", expected=f"1 to {CODES_AT_ONCE}")
        least, most = rules.ACCESS_CODE_LETTERS
        for at, code in enumerate(codes):
            if not rules.is_access_code(code):
                # Refusals are logged, and a code is a secret: it is named by its position.
                expected = f"{least} to {most} letters and digits"
                raise Refusal("INVALID_FIELD", field=f"codes[{at}]", expected=expected)
        if not 0 <= uses <= rules.USES_MAX:
            raise Refusal("INVALID_FIELD", field="uses", expected=f"0 to {rules.USES_MAX}")
        definition = await self._known.latest(sale)
        if definition.archived:
            raise Refusal("SALE_ARCHIVED", sale=sale)
        if not rules.has_line(definition.sale):
            raise Refusal("NO_LINE", sale=sale)
        secret = buyer_key(self._keys, definition.sale).secret
        ids = [rules.access_code_id(secret, sale, code) for code in codes]
        return await self._store.put_codes(sale, ids, uses)
