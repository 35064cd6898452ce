"""What a check came to: what it looked at, what is still under way, and what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.audit.facts import Facts


@dataclass
class Finding:
    """One invariant's verdict. A violation is one sentence that names what is wrong by its ids."""

    invariant: str
    title: str
    looked_at: dict[str, int] = field(default_factory=dict)
    under_way: int = 0
    """What has not come to its end yet; wrong only where everything must have."""
    violations: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    def wrong(self, sentence: str) -> None:
        """Note a violation."""
        self.violations.append(sentence)


Check = Callable[["Facts"], Finding]
