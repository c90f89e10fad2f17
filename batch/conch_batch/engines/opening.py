"""Which engine a job has: a deployment where it names one, else the graphs of its repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_batch.engines import deployment, graphs

if TYPE_CHECKING:
    from conch_batch.engines.engine import Engine
    from conch_batch.job import Job
    from conch_batch.model import Model


def describe(job: Job) -> Model:
    """The model; raises EngineError where it cannot do what is asked."""
    return deployment.describe(job) if job.server else graphs.describe(job)


def needs_gpu(job: Job) -> bool:
    """Whether the engine computes on a GPU of this side."""
    return not job.server and graphs.is_for_gpu(job)


def opened(job: Job, model: Model, threads: int) -> Engine:
    """The engine of one worker."""
    return deployment.Deployment(job, model) if job.server else graphs.Graphs(job, model, threads)
