"""How much memory is in use where the engine computes."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def device_memory(device: str) -> tuple[int, int] | None:
    """Bytes in use by anyone and bytes there are, of a GPU; by this process and of the machine,
    on the CPU. None where the system does not tell.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    if kind == "mps":
        return torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
        return resident, os.sysconf("SC_PHYS_PAGES") * page
    except (OSError, ValueError, IndexError):  # no /proc
        return None
