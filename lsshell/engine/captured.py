"""On CUDA, a small problem's loss and gradient as one graph: a launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Chunks of examples that are captured; of larger problems the kernels outlast their launches.
MOST_CHUNKS = 4
WARM_UP = 3
AGREEMENT = 1e-5


class Captured:
    """`evaluate` recorded as a CUDA graph, which reads and writes the same buffers each time.

    `evaluate` takes no argument, does not wait for the device, and returns one number there.
    """

    def __init__(self, evaluate: Callable[[], Tensor]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # lazily made workspaces must not be part of the graph
            for _ in range(WARM_UP):
                evaluate()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: NCCL's watchdog asks the device for events meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._found = evaluate()

    def clear(self) -> None:
        """Forgets the number found last."""
        self._found.zero_()

    def __call__(self) -> Tensor:
        self._graph.replay()
        return self._found


def capture(
    evaluate: Callable[[], Tensor], written: Tensor, device: torch.device, chunks: int
) -> Captured | None:
    """The graph, where there is something to gain and it gives what `evaluate` gives: its number,
    and what it has `written`. Otherwise None.

    A network that waits for the device, or chooses its way by what it computes, has no graph.
    """
    if device.type != "cuda" or not 0 < chunks <= MOST_CHUNKS:
        return None
    with torch.cuda.device(device):  # on another than the current one a graph stays empty
        try:
            wanted, there = float(evaluate()), written.clone()
            captured = Captured(evaluate)
            written.zero_()
            captured.clear()
            found = float(captured())
        except RuntimeError:
            torch.cuda.synchronize(device)
            return None
        apart = float((written - there).norm())
    alike = abs(found - wanted) <= AGREEMENT * abs(wanted)
    return captured if alike and apart <= AGREEMENT * float(there.norm()) else None
