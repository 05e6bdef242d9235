"""The work that a search may do, so that no input makes it endless."""

from __future__ import annotations

LOOKS = 8
"""The part of the work that is left that one look may cost."""


class Budget:
    """The work left for a search, over all its runs: counted, not timed, so that answers repeat.

    Attributes:
        left: below 0 where the last look cost more than there was.
    """

    def __init__(self, work: float = 2**62) -> None:
        self.left = self._all = work

    def spend(self, work: float) -> None:
        """Take off some work that was done."""
        self.left -= work

    @property
    def low(self) -> bool:
        """Whether more than half is spent."""
        return 2 * self.left < self._all

    @property
    def spent(self) -> bool:
        """Whether there is hardly any left."""
        return self.share == 0

    @property
    def share(self) -> int:
        """The work that one more look may take; 0 where all is spent."""
        return int(max(self.left, 0) // LOOKS)
