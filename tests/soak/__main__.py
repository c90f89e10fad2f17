"""`make soak`: see `command`."""

from __future__ import annotations

import sys

from tests.soak import isolation

if __name__ == "__main__":
    isolation.enter()  # which starts this program anew: the imports that take seconds come after it
    from tests.soak.command import main

    sys.exit(main())
