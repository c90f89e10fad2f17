"""Errors that the contract shares with clients.

ConchError                      the root
├── InvalidInputError           an input cannot be served as it is (also a ValueError)
├── SpaceError                  the answer would be in another vector space than the caller expects
└── DescriptionError            a model's parameters are not those that an export writes (also a ValueError)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Self


class ConchError(Exception):
    """Root of the errors that the contract and the client raise on purpose."""


class InvalidInputError(ConchError, ValueError):
    """The input cannot be served as it is; the message says which item is at fault and how to mend it.

    Args:
        message: For people. Where ``indices`` are given it holds them as a list, as in ``texts[3] is empty`` or
            ``refused texts [1, 4]``.
        indices: Positions, in the list that was passed to the call, of the inputs that the error is about. Only the
            first one where checking ends at the first. Empty where the error is about no item of a list: an option, the
            query, or the request as a whole.

    Attributes:
        indices: As above.
    """

    def __init__(self, message: str, indices: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.indices = tuple(indices)

    def moved(self, positions: Sequence[int]) -> Self:
        """The same error for a caller who passed a longer list, of which only some items were sent on.

        A caller that sends ``[texts[i] for i in positions]`` raises ``error.moved(positions) from error``: indices and
        message then name the items of ``texts``, and nothing is sent again to find out which one was wrong.

        Args:
            positions: For each item that was sent, its index in the caller's own list.
        """
        indices = [positions[index] for index in self.indices]
        message = str(self).replace(str(list(self.indices)), str(indices), 1) if indices else str(self)
        return type(self)(message, indices)


class SpaceError(ConchError):
    """The answer would be in another vector space than the caller states with ``expect_space``."""


class DescriptionError(ConchError, ValueError):
    """A model's parameters cannot be read: another format, a parameter that is missing or one that is malformed."""
