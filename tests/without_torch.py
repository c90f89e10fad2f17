"""A plugin of pytest (`-p tests.without_torch`): importing torch fails, as it does where it is not installed."""

from __future__ import annotations

import sys

sys.modules["torch"] = None  # type: ignore[assignment]  # so that `import torch` raises ModuleNotFoundError
