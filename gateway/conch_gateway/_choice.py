"""Which model a request means; what is served is the client's to know, which remembers Triton's answer for seconds."""

from conch_client import AsyncClient, ModelInfo, ModelNotFoundError

from conch_gateway.errors import InvalidValueError

EMBEDDING = frozenset({"embedding"})
RERANKING = frozenset({"late-interaction", "cross-encoder"})


async def choose_model(client: AsyncClient, name: str | None, tasks: frozenset[str]) -> ModelInfo:
    """Return the model of that name, or the first by name that does one of the tasks, ready ones before others.

    Raises:
        InvalidValueError: the model does something else.
        ModelNotFoundError: no such model is served.
        UnavailableError: Triton cannot be reached.
    """
    if name is None:
        return await _first_model(client, tasks)
    info = await client.model(name)
    if info.task not in tasks:
        wanted = " or ".join(sorted(tasks))
        msg = f"model {info.name!r} is for {info.task}, not for {wanted}; GET /v1/models lists all"
        raise InvalidValueError(msg, param="model")
    return info


async def _first_model(client: AsyncClient, tasks: frozenset[str]) -> ModelInfo:
    fitting = [info for info in await client.models() if info.task in tasks]
    if not fitting:
        msg = f"no model for {' or '.join(sorted(tasks))} is served; export one into the model repository"
        raise ModelNotFoundError(msg)
    return next((info for info in fitting if info.ready), fitting[0])
