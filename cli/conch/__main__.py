"""The `conch` command as a process, also `python -m conch`: Ctrl-C ends it quietly, whatever it is doing.

While Python imports, or ends, nothing has to be cleaned up, and an exception could be lost or told as a traceback. A
command in between gets the exception.
"""

from __future__ import annotations

import os
import signal

from conch import INTERRUPTED
from conch.importing import importing


def main() -> None:
    """Run the command line."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and is not ignored, as by nohup
        signal.signal(signal.SIGINT, _leave)
    with importing():
        from conch import app  # noqa: PLC0415

    signal.signal(signal.SIGINT, before)
    try:
        app.main()
    except KeyboardInterrupt:  # before a command has begun
        _leave()
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
