"""The manifest of an output: everything that its bytes depend on, written before the first shard is computed.

A run that finds a manifest continues it. It is refused if inputs, model or options have changed since: old and new
shards could not be told apart later.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from conch_batch.errors import ChangedError, OutputError
from conch_batch.planning.plan import Piece, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 2


@dataclass(frozen=True)
class Identity:
    """What must not change between the runs that fill one output.

    Attributes:
        model: facts about the model, with a hash of its graphs or what the gateway states.
        options: options on which the output depends.
        files: names and fingerprints of the files of the input, in their order.
    """

    model: Mapping[str, str]
    options: Mapping[str, Any]
    files: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Manifest:
    """An identity, and the plan for it."""

    identity: Identity
    plan: Plan

    def to_json(self) -> bytes:
        """Return the content of the file."""
        identity, plan = self.identity, self.plan
        stated = {
            "format": FORMAT,
            "model": dict(identity.model),
            "options": dict(identity.options),
            "files": list(identity.files),
            "rows": plan.rows,
            "schema": base64.b64encode(plan.schema.serialize().to_pybytes()).decode(),
            "shards": plan.shards,
            "repeated": plan.repeated,
        }
        return json.dumps(stated, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            OutputError: the content is damaged, or of another release.
        """
        try:
            stated = json.loads(content)
            if stated["format"] != FORMAT:
                raise OutputError(f"{where} was written by another release of conch; name another output")
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stated["schema"])))
            shards, repeated = (
                [[Piece(*piece) for piece in shard] for shard in stated[key]] for key in ("shards", "repeated")
            )
            files = [(name, fingerprint) for name, fingerprint in stated["files"]]
            return cls(Identity(stated["model"], stated["options"], files), Plan(schema, shards, repeated))
        except (ValueError, LookupError, TypeError, pa.ArrowException) as error:
            raise OutputError(f"{where} is damaged ({error}); name another output") from error


def refuse_changes(begun: Identity, now: Identity, output: str) -> None:
    """Refuse to continue an output if its identity has changed.

    Raises:
        ChangedError: names the difference and both values.
    """
    fix = f"{output} was begun differently: restore that, or name another --output"
    for what, then, today in (("model", begun.model, now.model), ("option", begun.options, now.options)):
        for key in dict.fromkeys([*then, *today]):
            if then.get(key) != today.get(key):
                msg = f"the {what} has changed: {key} was {then.get(key)!r} and is {today.get(key)!r}; {fix}"
                raise ChangedError(msg)
    for before, after in zip_longest(begun.files, now.files, fillvalue=("nothing", "")):
        if before[0] != after[0]:
            raise ChangedError(f"the input has changed: where {before[0]} was is {after[0]}; {fix}")
        if before[1] != after[1]:
            raise ChangedError(f"the input has changed: {after[0]} has another content; {fix}")
