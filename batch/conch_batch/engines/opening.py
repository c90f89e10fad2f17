"""Chooses the engine of a job: a gateway if the job names one, else the graphs of its repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_batch.engines import deployment, graphs

if TYPE_CHECKING:
    from conch_batch.engines.engine import Engine
    from conch_batch.job import Job
    from conch_batch.model import Model


def describe(job: Job) -> Model:
    """The model of a job; raises EngineError if it does not support the task."""
    return deployment.describe(job) if job.server else graphs.describe(job)


def needs_gpu(job: Job) -> bool:
    """Whether the engine needs a GPU."""
    return not job.server and graphs.is_for_gpu(job)


def opened(job: Job, model: Model, threads: int) -> Engine:
    """The engine of one worker."""
    return deployment.Deployment(job, model) if job.server else graphs.Graphs(job, model, threads)
