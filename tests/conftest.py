"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# Workers share the cores: torch would take all of them in each. Before anything imports it, and
# for the processes that tests start.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# How long an example takes says how busy the machine is, and nothing of the program.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
