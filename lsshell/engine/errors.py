"""What can go wrong in the engine, said to people."""


class EngineError(Exception):
    """Bad input or an impossible request. The message says what was wrong and what to do.

    Raised before any state changes: the engine is left as it was.
    """


class NetworkMismatchError(EngineError):
    """The network and the data do not go together."""


class NotFiniteError(EngineError):
    """L is NaN or infinite at a point: no place to go."""


class DivergedError(EngineError):
    """Training ran away: its loss is NaN or infinite."""


class Cancelled(Exception):  # noqa: N818 - a request, not an error
    """The user asked to stop. The point of the last accepted step stays valid."""


class RanksError(Exception):
    """Processes that walk together cannot go on: one has failed, or they have come apart."""


class RankLostError(RanksError):
    """A rank was killed, crashed or hangs."""
