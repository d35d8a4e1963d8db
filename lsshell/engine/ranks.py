"""The processes that walk together: what is summed over examples is summed over their parts."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lsshell.engine.errors import Cancelled, RankLostError, RanksError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# What a rank tells the others where they meet: where it is, how it fares, a fingerprint of θ, and
# up to so many numbers.
MOST_NUMBERS = 4
GOING_ON, CANCELLED, FAILED = 0.0, 1.0, 2.0


class Ranks:
    """One of `count` processes that run the same commands, each holding all of θ and of the data.

    L and its derivatives are sums over examples: each rank takes its `part` of them, and `summed`
    adds the parts up, the same bits on every rank. Whatever decides (sums, a wish to stop, the
    clock) goes through one of these methods, called by all ranks in the same order, so that no
    rank goes a way of its own. This class is the one process that walks alone, for which none of
    it costs anything; `Group` is one of several.
    """

    rank = 0
    count = 1
    lost = ""  # why the ranks cannot meet any more; "" while they can

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Which of n examples are this rank's: neighbours, as many as on any other or one more."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def summed(
        self,
        what: str,
        theta: Tensor,
        compute: Callable[[], Iterable[Tensor | float]],
        *vectors: Tensor,
    ) -> list[float]:
        """Σ over ranks of what `compute` gives (4 numbers at most), and in place of `vectors`.

        `compute` evaluates this rank's part at `theta` and adds its share to `vectors` (zeroed).
        What it raises anywhere is raised everywhere: Cancelled as such, the rest as RanksError
        on the other ranks. `what` names the evaluation.
        """
        return [float(number) for number in compute()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank."""
        return flag

    def share(self, *tensors: Tensor) -> None:
        """Overwrites tensors by those of the first rank."""

    def from_first(self, compute: Callable[[], T]) -> T:
        """What `compute` gives (or raises: RanksError elsewhere) on the first rank, which alone
        calls it.
        """
        return compute()

    def of_all(self, value: T) -> list[T]:
        """The value of each rank."""
        return [value]

    def agree(self, what: str, failure: str | None, asked: bool, result: str = "") -> bool:
        """Ends a command that all ranks have done; whether any was `asked` to stop.

        Raises RanksError where it has failed on some rank but not on this one, or where `what` it
        was or its `result` differ.
        """
        return asked


ALONE = Ranks()


class Group(Ranks):
    """One rank of the process group of torch.distributed (`join` makes it).

    Before anything is summed or shared, the ranks meet: each says in one row where it is, how it
    fares and what θ it holds. So a failure on one rank, or ranks that have come apart, ends in a
    sentence on all of them rather than in a wait without end.
    """

    def __init__(self, rank: int, count: int, timeout: float) -> None:
        """`timeout`: after so many seconds without an answer a rank is lost."""
        self.rank, self.count, self.timeout = rank, count, timeout

    def summed(
        self,
        what: str,
        theta: Tensor,
        compute: Callable[[], Iterable[Tensor | float]],
        *vectors: Tensor,
    ) -> list[float]:
        import torch

        status, numbers, error, fingerprint = GOING_ON, [], None, 0.0
        try:
            numbers = [float(number) for number in compute()]
            fingerprint = float(theta.sum(dtype=torch.float64))
        except Cancelled:
            status = CANCELLED
        except Exception as e:
            error = e
        sizes = ",".join(str(v.numel()) for v in vectors)
        rows = self._meet(f"{what} {sizes}", status, numbers, error, fingerprint)
        if any(row[1] == CANCELLED for row in rows):
            raise Cancelled
        if len({struct.pack("d", row[2]) for row in rows}) > 1:
            raise RanksError(
                "the ranks no longer hold the same parameters, so their sums mean nothing: they"
                " must be alike, and the network deterministic"
            )
        for vector in vectors:
            self._add(vector)
        return [sum(row[3 + k] for row in rows) for k in range(len(numbers))]

    def any(self, flag: bool) -> bool:
        return any(row[3] for row in self._meet("any", numbers=(flag,)))

    def share(self, *tensors: Tensor) -> None:
        self._meet("share " + ",".join(str(t.numel()) for t in tensors))
        for tensor in tensors:
            self._overwrite(tensor)

    def from_first(self, compute: Callable[[], T]) -> T:
        value, error = None, None
        if self.first:
            try:
                value = compute()
            except Exception as e:
                error = e
        self._meet("from the first", error=error)
        return self._objects(value)[0]

    def of_all(self, value: T) -> list[T]:
        self._meet("of all")
        return self._objects(value)

    def agree(self, what: str, failure: str | None, asked: bool, result: str = "") -> bool:
        if self.lost:
            return asked
        number = float(zlib.crc32(f"{what}\n{result}".encode()))
        error = RanksError(failure) if failure is not None else None
        try:
            rows = self._meet("agree", numbers=(number, asked), error=error)
        except RanksError as e:
            if e is error:  # which whoever called has told already
                return asked
            raise
        if len({row[3] for row in rows}) > 1:
            self._explain(what, None)
        return any(row[4] for row in rows)

    def _meet(
        self,
        what: str,
        status: float = GOING_ON,
        numbers: Sequence[float] = (),
        error: Exception | None = None,
        fingerprint: float = 0.0,
    ) -> list[list[float]]:
        """The rows of all ranks; raises where one has failed or is elsewhere."""
        if error is not None:
            status = FAILED
        filled = [*map(float, numbers), *[0.0] * (MOST_NUMBERS - len(numbers))]
        rows = self._rows([float(zlib.crc32(what.encode())), status, fingerprint, *filled])
        if len({row[0] for row in rows}) > 1 or any(row[1] == FAILED for row in rows):
            self._explain(what, error)
        return rows

    def _explain(self, what: str, error: Exception | None) -> NoReturn:
        """Raises what went wrong, in the words of the rank that knows it.

        Where it went wrong on some ranks only, they stand in different places from then on, and
        never meet again.
        """
        said = self._objects((what, None if error is None else str(error) or type(error).__name__))
        words = [f"rank {rank}: {why}" for rank, (_, why) in enumerate(said) if why is not None]
        if not words:
            places = [place for place, _ in said]
            if len(set(places)) > 1:
                at = "; ".join(f"rank {rank} is at {place}" for rank, place in enumerate(places))
                words = [f"the ranks no longer do the same: {at}"]
            else:
                words = [f"the ranks have come to different results: {what}"]
        if len(words) < self.count or error is None:
            self.lost = words[0]
        raise error or RanksError(words[0])

    # -- what goes over the wire -------------------------------------------------------------

    def _rows(self, row: list[float]) -> list[list[float]]:
        """A row of numbers of each rank."""
        import torch
        import torch.distributed as dist

        mine = torch.tensor(row, dtype=torch.float64)
        rows = [torch.empty_like(mine) for _ in range(self.count)]
        with self._reaching():
            dist.all_gather(rows, mine)
        return [r.tolist() for r in rows]

    def _objects(self, value: T) -> list[T]:
        """An object of each rank."""
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        with self._reaching():
            dist.all_gather_object(values, value)
        return values

    def _add(self, tensor: Tensor) -> None:
        """Σ over ranks, in place, the same bits on each."""
        import torch.distributed as dist

        with self._reaching():
            dist.all_reduce(tensor)

    def _overwrite(self, tensor: Tensor) -> None:
        """The first rank's, in place."""
        import torch.distributed as dist

        with self._reaching():
            dist.broadcast(tensor, src=0)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Says for people that a rank does not answer; from then on none is asked again."""
        if self.lost:
            raise RankLostError(self.lost)
        try:
            yield
        except RuntimeError as e:  # all of torch.distributed's are
            who = f"rank {1 - self.rank}" if self.count == 2 else "another rank"
            late = "timed out" in str(e).lower() or "timeout" in str(e).lower()
            how = f"did not answer for {self.timeout:g} s" if late else "has ended or was killed"
            self.lost = f"{who} was lost: it {how}; what was recorded until then is kept"
            raise RankLostError(self.lost) from e


def join(timeout: float) -> Group:
    """Joins the process group that torchrun describes in the environment: gloo, and NCCL for
    tensors on GPUs, of which the one of LOCAL_RANK becomes this process's.

    Raises RanksError where this rank has no GPU of its own, or the others cannot be reached.
    """
    import os
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.is_available():
        local, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= devices:
            raise RanksError(
                f"rank {rank} has no GPU of its own ({devices} here): start fewer ranks, or set"
                " CUDA_VISIBLE_DEVICES= to compute on the CPU"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except RuntimeError as e:
        reason = str(e).splitlines()[0]
        raise RanksError(f"rank {rank} cannot reach the others: {reason}") from e
    return Group(rank, count, timeout)
