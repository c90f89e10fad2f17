"""What a served model says about itself: the ``parameters`` of its public ensemble, read into one record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from conch_client._errors import InvalidInputError, ServerError
from conch_client._interaction import Interaction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonclient.grpc import model_config_pb2

EMBEDDING = "embedding"
LATE_INTERACTION = "late-interaction"
CROSS_ENCODER = "cross-encoder"
MULTI_VECTOR = "multi-vector"
SPARSE = "sparse"
EMBEDDINGS = (EMBEDDING,)
RERANKERS = (LATE_INTERACTION, CROSS_ENCODER)
ANY_TASK = (*EMBEDDINGS, *RERANKERS, MULTI_VECTOR, SPARSE)

_FORMAT = "1"
_NONE: Mapping[str, model_config_pb2.ModelConfig] = MappingProxyType({})
_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


@dataclass(frozen=True)
class ModelInfo:
    """One served model.

    Attributes:
        name: What to pass as ``model``.
        task: ``embedding``, ``multi-vector`` (a vector for each token), ``sparse``, or, to rerank, ``late-interaction``
            or ``cross-encoder``.
        base: Name of the model that shares its encoder and was there first; None for one that stands for itself.
        ready: Whether the server can run it now.
        architecture: The checkpoint's architecture, such as ``bert``.
        precision: ``fp32`` or ``int8``.
        description: One line for people.
        max_length: Most tokens of a text, special tokens included; longer ones are truncated or refused.
        max_rows: Most texts in one request to the server; longer lists are split.
        inputs: Names of the tensors that the model takes.
        output: Name of the tensor that it gives (the first, where it gives two).
        tokenizer: Name of the Triton model that serves ``tokenizer.json``.
        tokenizer_sha256: SHA-256 of that file.
        tokenizer_bytes: Its size.
        source: Where the checkpoint came from.
        revision: Which revision of it.
        weights_sha256: SHA-256 of the original weights.
        dimension: Length of a vector, a sparse one's zeros included; None for rerankers.
        pooling: How token vectors become one; None where they do not.
        normalized: Whether the model's vectors have length 1 as served.
        prompts: Texts that may be put before the input, by name.
        default_prompt_name: The prompt that is used when none is asked for; None for none.
        matryoshka_dimensions: Lengths that vectors were trained to be cut to; None when they were not.
        matryoshka_centred: Whether the mean of a vector's numbers is taken from them before it is cut.
        similarity: How its authors compare vectors, ``cosine`` or ``dot``; None where they do not say.
        pair_template: The text that a cross-encoder reads, with ``{query}`` and ``{document}`` in it; None where its
            tokenizer joins them.
        interaction: How queries and documents are written for late interaction; None for alike and as they are.
        instances: How many instances of its encoder the server runs; None where it does not say.
    """

    name: str
    task: str
    base: str | None
    ready: bool
    architecture: str
    precision: str
    description: str
    max_length: int
    max_rows: int
    inputs: tuple[str, ...]
    output: str
    tokenizer: str
    tokenizer_sha256: str
    tokenizer_bytes: int
    source: str
    revision: str
    weights_sha256: str
    dimension: int | None
    pooling: str | None
    normalized: bool
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    matryoshka_dimensions: tuple[int, ...] | None
    matryoshka_centred: bool = False
    similarity: str | None = None
    pair_template: str | None = None
    interaction: Interaction | None = None
    instances: int | None = None

    def prompt_text(self, prompt: str | None, prompt_name: str | None) -> str:
        """The text to put before each input.

        Args:
            prompt: The text itself; ``""`` for none, even where the model has a default.
            prompt_name: One of ``prompts``; with neither, the model's default applies.

        Raises:
            InvalidInputError: Both are given, or the name is unknown.
        """
        if prompt is not None and prompt_name is not None:
            raise InvalidInputError("give prompt or prompt_name, not both")
        if prompt is not None:
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise InvalidInputError(
                f"{self.name} has no prompt {name!r}; it has: {known}. Or pass prompt= with the text."
            )
        return self.prompts[name]


def is_conch_model(config: model_config_pb2.ModelConfig) -> bool:
    """Whether a Triton model is the public face of a conch model (and not one of its parts, or somebody else's)."""
    return "conch_format" in config.parameters


def read_model_info(
    config: model_config_pb2.ModelConfig, others: Mapping[str, model_config_pb2.ModelConfig] = _NONE
) -> ModelInfo:
    """Reads the ensemble's configuration of a model that is ready; its encoder's is among the others, if known.

    Raises:
        ServerError: A parameter is missing or unreadable, or the format is another than this client's.
    """
    values = {key: value.string_value for key, value in config.parameters.items()}
    if values["conch_format"] != _FORMAT:
        raise ServerError(
            f"{config.name} is in repository format {values['conch_format']}; this client reads {_FORMAT}: "
            "use matching releases of the client and of the exporter"
        )
    inputs = tuple(tensor.name for tensor in config.input)
    if not _KNOWN_INPUTS.issuperset(inputs):
        raise ServerError(f"{config.name} takes inputs that this client does not know: {', '.join(inputs)}")
    try:
        return ModelInfo(
            name=config.name,
            ready=True,
            max_rows=max(1, config.max_batch_size),
            inputs=inputs,
            output=config.output[0].name,
            instances=_instances(config, others),
            **_described(values),
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ServerError(f"{config.name} describes itself wrongly ({error!r}): export it again") from error


def _instances(config: model_config_pb2.ModelConfig, others: Mapping[str, model_config_pb2.ModelConfig]) -> int | None:
    steps = [others[step.model_name] for step in config.ensemble_scheduling.step if step.model_name in others]
    return max((sum(group.count for group in step.instance_group) for step in steps), default=0) or None


def _described(values: Mapping[str, str]) -> dict[str, Any]:
    sizes = values.get("matryoshka_dimensions")
    return {
        **{key: values[key] for key in ("task", "tokenizer", "tokenizer_sha256")},
        "base": values.get("base"),
        **{key: int(values[key]) for key in ("max_length", "tokenizer_bytes")},
        **{
            key: values.get(key, "")
            for key in ("architecture", "precision", "description", "source", "revision", "weights_sha256")
        },
        "dimension": None if values["task"] in RERANKERS else int(values["dimension"]),
        "pooling": values.get("pooling"),
        "normalized": values.get("normalize") == "true",
        "prompts": dict(json.loads(values.get("prompts") or "{}")),
        "default_prompt_name": values.get("default_prompt_name") or None,
        "matryoshka_dimensions": tuple(map(int, json.loads(sizes))) if sizes else None,
        "matryoshka_centred": values.get("matryoshka_centred") == "true",
        "similarity": values.get("similarity"),
        "pair_template": values.get("pair_template"),
        "interaction": _interaction(values["interaction"]) if "interaction" in values else None,
    }


def _interaction(stated: str) -> Interaction:
    rules = json.loads(stated)
    return Interaction(**{**rules, "skipped": tuple(rules["skipped"])})
