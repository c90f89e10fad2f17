"""Everything that the package raises.

BatchError                  the root
├── InputError              an input cannot be read as rows, or lacks a column
├── ChangedError            inputs, model or options are not those that the output was begun with
├── OutputError             the folder for the output cannot be written, or holds something else
├── EngineError             the model cannot be run, or the deployment does not answer
├── RowError                a row cannot be computed, and the run was to stop then
└── InterruptedRun          the user stopped the run
"""

from __future__ import annotations


class BatchError(Exception):
    """The root."""


class InputError(BatchError):
    """An input cannot be read as rows, or lacks a column."""


class ChangedError(BatchError):
    """Inputs, model or options are not those that the output was begun with."""


class OutputError(BatchError):
    """The folder for the output cannot be written, or holds something else."""


class EngineError(BatchError):
    """The model cannot be run, or the deployment does not answer."""


class RowError(BatchError):
    """A row cannot be computed, and the run was to stop then."""


class InterruptedRun(BatchError):  # noqa: N818 - what happened is no error
    """The user stopped the run."""
