"""Checks of a job, before anything is computed: its inputs, its options, and what its model supports."""

from __future__ import annotations

from collections.abc import Sequence

from conch_client import ModelInfo
from conch_contract import Task, approximated_space_of, check_space, space_of

from conch_gateway.backends.prompts import choose_prompt
from conch_gateway.errors import InvalidValueError
from conch_gateway.jobs import EmbeddingJob, is_text
from conch_gateway.telemetry.request import RequestContext


def check_texts(job: EmbeddingJob, most: int, *, shortened: bool = True) -> None:
    """Check the texts and options of a job for vectors, which may be `shortened` or not.

    Raises:
        InvalidValueError: there are more than `most` texts, or an option does not go with them.
    """
    check_count(len(job.texts), most, "inputs", "input")
    if job.dimensions is not None and not shortened:
        raise InvalidValueError("dimensions: only dense vectors can be shortened; leave it out", param="dimensions")
    for name, value in (("prompt_name", job.prompt_name), ("instruction", job.instruction)):
        if value is not None and not is_text(job.texts):
            msg = f"{name}: a prompt can be put before text only, not before token ids; send text or leave it out"
            raise InvalidValueError(msg, param=name)


def check_count(count: int, most: int, what: str, param: str | None) -> None:
    """Raise InvalidValueError for more than `most` inputs."""
    if count > most:
        msg = f"{count} {what} are too many; send at most {most} in one request"
        raise InvalidValueError(msg, param=param)


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Raise InvalidValueError for a pair whose first text is empty."""
    if not all(first for first, _ in pairs):
        raise InvalidValueError("the first text of a pair is empty; leave the pair out or send some text")


def check_vectors(job: EmbeddingJob, info: ModelInfo, asked: str, *, of_two: bool) -> None:
    """Check that a model, `asked` for by that name, has such vectors, and that it reads token ids as the job says.

    Args:
        job: the job.
        info: facts of the model.
        asked: the name, for messages.
        of_two: whether the name stands for two models: the purpose of the texts has chosen one, for token ids as well.

    Raises:
        InvalidValueError: it has not, or does not.
    """
    if job.dimensions is not None and info.dimension is not None and job.dimensions > info.dimension:
        msg = f"dimensions: model {asked!r} has {info.dimension}; ask for at most as many"
        raise InvalidValueError(msg, param="dimensions")
    if job.normalize is False and info.normalized:
        msg = (
            f"normalize: {asked!r} is served with normalisation built in; send true, or export the model with "
            "--no-normalize"
        )
        raise InvalidValueError(msg, param="normalize")
    if job.input_type is not None and not is_text(job.texts) and not of_two:
        prompt = choose_prompt(info, None, job.input_type)
        if info.prompt_text(*prompt) or info.looks_up(*prompt):
            msg = (
                f"input_type: {asked!r} reads such text otherwise than others, and token ids are taken as they are; "
                "send text, or leave it out"
            )
            raise InvalidValueError(msg, param="input_type")


def checked_space(info: ModelInfo, asked: str, context: RequestContext, job: EmbeddingJob | None) -> str | None:
    """Return the vector space of the answer, None without vectors; raises SpaceError if the caller expects another."""
    if job is None:
        check_space(context.expect_space, None, repr(asked))
        return None
    # Vectors of tokens keep their lengths where a request does not say.
    normalize = job.normalize is True if info.task is Task.MULTI_VECTOR else job.normalize is not False
    space_id = space_of(info, job.dimensions, normalize=normalize)
    approximated = approximated_space_of(info, job.dimensions, normalize=normalize)
    for expected in (context.expect_space, job.expect_space):
        check_space(expected, space_id, repr(asked), approximated)
    return space_id
