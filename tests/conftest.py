"""For all tests: properties have no deadline, and a process uses one thread for its arithmetic.

How long an example takes says something of the machine; timings belong to benchmarks. Processors are shared by pytest's processes: if
each of them trains with as many threads as there are processors, they spend their time waiting for each other.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when scikit-learn is imported
settings.register_profile("without timings", deadline=None)
settings.load_profile("without timings")
