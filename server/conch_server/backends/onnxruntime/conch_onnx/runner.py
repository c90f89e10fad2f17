"""One model: requests in, an answer or an error for each of them out.

No request suffers from another: one that cannot be merged is refused by itself, and when a merged run fails every
request is run alone, so that only the one that fails gets the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .batching import merge, split
from .contract import ConfigError, Contract
from .session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from numpy.typing import NDArray

    from .wide import Session

    Tensors = Mapping[str, NDArray[Any]]


class RequestError(Exception):
    """Why a request gets no answer; `invalid` says whether the request itself is at fault."""

    def __init__(self, message: str, *, invalid: bool = False) -> None:
        super().__init__(message)
        self.invalid = invalid


class GraphModel:
    """A graph and its configuration; not safe for concurrent calls (each Triton instance has its own)."""

    def __init__(self, contract: Contract, session: Session) -> None:
        self.contract = contract
        self._session = session

    @classmethod
    def open(cls, config: Mapping[str, Any], version_folder: Path, scratch: Path, instance: str = "") -> GraphModel:
        """Load the model that Triton's JSON `config` describes; raise ConfigError, prefixed with the model's name.

        What all instances of models share is written below the folder `scratch`; `instance` is Triton's name of this.
        """
        try:
            contract = Contract.from_config(config)
            return cls(contract, open_session(contract, version_folder, scratch, instance))
        except ConfigError as error:
            raise ConfigError(f"model '{config.get('name')}': {error}") from error

    def run(self, requests: Sequence[Tensors], wanted: AbstractSet[str]) -> list[Tensors | RequestError]:
        """Answer every request, in order, with the outputs named in `wanted` (or all, if it is empty)."""
        answers: list[Tensors | RequestError | None] = [self._objection(request) for request in requests]
        good = [index for index, objection in enumerate(answers) if objection is None]
        for index, answer in zip(good, self._run_merged([requests[index] for index in good], wanted), strict=True):
            answers[index] = answer
        return [answer for answer in answers if answer is not None]

    def _run_merged(self, requests: list[Tensors], wanted: AbstractSet[str]) -> list[Tensors | RequestError]:
        if not requests:
            return []
        if len(requests) > 1 and not self.contract.batched:
            return [self._run_merged([request], wanted)[0] for request in requests]
        names = [output.name for output in self.contract.outputs if not wanted or output.name in wanted]
        try:
            results = self._session.run(names, merge(self.contract, requests))
            return list(split(self.contract, requests, dict(zip(names, results, strict=True))))
        except Exception as error:  # noqa: BLE001  onnxruntime has no common base for what a graph can raise
            if len(requests) == 1:
                # A MemoryError often says nothing.
                return [RequestError(f"model '{self.contract.name}' failed: {str(error) or type(error).__name__}")]
        return [self._run_merged([request], wanted)[0] for request in requests]

    def _objection(self, request: Tensors) -> RequestError | None:
        """Return an error for tensors that would shift or spoil the rows of other requests once flattened with them.

        Rows without elements pass: ragged graphs take the length of every row, and answer such rows with NaN.
        """
        leading: tuple[int, ...] | None = None
        for declared in self.contract.inputs:
            shape = request[declared.name].shape
            if self.contract.batched and shape[0] == 0:
                return RequestError(
                    f"input '{declared.name}' has shape {list(shape)}; give at least one row", invalid=True
                )
            if declared.ragged:
                leading = leading or shape
                shared = 1 if declared.has_own_length else min(len(leading), len(shape))
                if leading[:shared] != shape[:shared]:
                    return RequestError(
                        f"input '{declared.name}' has shape {list(shape)} beside {list(leading)}; "
                        "give all inputs the same rows and length",
                        invalid=True,
                    )
        return None
