"""Ranks that are threads of one process, for tests."""

import threading
from concurrent.futures import ThreadPoolExecutor

from lsshell.engine.ranks import Group


class Wire:
    """What the threads pass to each other."""

    def __init__(self, count):
        self.count = count
        self.barrier = threading.Barrier(count, timeout=240)
        self.slots = [None] * count

    def exchange(self, rank, value):
        self.slots[rank] = value
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found


class ThreadGroup(Group):
    def __init__(self, rank, wire):
        super().__init__(rank, wire.count, 60.0)
        self.wire = wire

    def _rows(self, row):
        return self.wire.exchange(self.rank, row)

    def _objects(self, value):
        return self.wire.exchange(self.rank, value)

    def _add(self, tensor):
        tensor.copy_(sum(self.wire.exchange(self.rank, tensor.clone())))

    def _overwrite(self, tensor):
        tensor.copy_(self.wire.exchange(self.rank, tensor.clone())[0])


def on_ranks(count, function):
    """What `function(ranks)` gives, or raises, on each of `count` ranks."""
    wire = Wire(count)

    def run(rank):
        try:
            return function(ThreadGroup(rank, wire))
        except Exception as e:
            return e

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
