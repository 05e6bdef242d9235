"""What one search may cost, so that no input makes it endless."""

from __future__ import annotations

LOOKS = 8
"""The part of the work that is left that one look may cost."""


class Budget:
    """The work that is left for a search, over all its runs; counted, so that answers repeat.

    Attributes:
        left: below 0 where the last look cost more than there was.
    """

    def __init__(self, work: float = 2**62) -> None:
        self.left = self._all = work

    def spend(self, work: float) -> None:
        """Take some work off."""
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
        """What one more look may cost; 0 where all is spent."""
        return int(max(self.left, 0) // LOOKS)
