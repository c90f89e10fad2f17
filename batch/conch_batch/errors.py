"""Everything that the package raises.

BatchError                  root of all errors
├── InputError              an input cannot be read as rows, or lacks a column
├── ChangedError            inputs, model or options differ from those that the output was begun with
├── OutputError             the folder for the output cannot be written, or holds something else
├── EngineError             the model cannot be run, or the deployment does not answer
├── RowError                a row cannot be computed, and --on-error stop was given
└── InterruptedRun          the user stopped the run
"""

from __future__ import annotations


class BatchError(Exception):
    """Root of the errors of this package."""


class InputError(BatchError):
    """An input cannot be read as rows, or lacks a column."""


class ChangedError(BatchError):
    """Inputs, model or options differ from those that the output was begun with."""


class OutputError(BatchError):
    """The folder for the output cannot be written, or holds something else."""


class EngineError(BatchError):
    """The model cannot be run, or the deployment does not answer."""


class RowError(BatchError):
    """A row cannot be computed, and `Job.on_error` is "stop"."""


class InterruptedRun(BatchError):  # noqa: N818 - nothing went wrong
    """The user stopped the run."""
