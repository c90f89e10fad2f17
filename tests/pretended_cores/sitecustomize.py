"""Every Python that starts with this folder in PYTHONPATH takes the machine for one of PRETENDED_CORES cores.

`make test CORES=32` does that. Threads of libraries still see the real ones; fewer are better had with `taskset`.
Isolated Python (the warden, the processes in which exports measure memory) and that of Triton's model instances do not
get this folder; they do not count cores either: how many threads they use is in their arguments and configurations.
"""

from __future__ import annotations

import os

CORES = int(os.environ["PRETENDED_CORES"])

os.cpu_count = lambda: CORES
os.sched_getaffinity = lambda _: set(range(CORES))
