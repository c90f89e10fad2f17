"""What every kind of test may use."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import uvloop

# onnxruntime reports usage unless told otherwise before it is imported; nothing here talks to anyone.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# The checkpoints are tiny: PyTorch's threads would mostly wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# Without it, importing ModernBERT from transformers imports a compiler that nothing here uses.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
# The command takes the width of the terminal when it is imported, whichever test does that first.
os.environ["COLUMNS"] = "400"
sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.declared import SOURCE_ROOTS

# What imports make stays: to look through it for garbage would be a fifth of the time that they take.
gc.disable()
sys.path += SOURCE_ROOTS  # for packages that were added since this checkout was installed
# jsonschema imports it for formats that no test checks, and it takes 1.4 s of every worker to build a grammar.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # so that importing it raises ModuleNotFoundError
# Under nohup, or in the background of a shell, these are ignored; processes that tests start would ignore them too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a machine that does other things.
hypothesis.settings.register_profile("conch", deadline=None)
hypothesis.settings.load_profile("conch")

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the product's own event loop: asyncio's differs from it where processes and sockets end."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_auto_num_workers() -> int:
    """Two more than cores: much of the time that tests take they wait."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    from tests.checkpoints import Checkpoints  # which needs torch; unit tests do without

    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Exempt all that imports and collection have made from garbage collection, which walks it again and again else."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(5_000)  # looking through what tests make took a fiftieth of their time
