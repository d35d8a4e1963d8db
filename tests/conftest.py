"""What holds for every test."""

import os

# Workers share the cores: torch would take all of them in each. Before anything imports it, and
# for the processes that tests start.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
