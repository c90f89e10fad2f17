"""The description of a served model: one record, written to and read from `parameters` of its `config.pbtxt`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from conch_contract.classification import Activation
from conch_contract.errors import DescriptionError, InvalidInputError
from conch_contract.interaction import QUERY_PROMPT, Interaction
from conch_contract.pair_template import is_pair_template, takes_instruction
from conch_contract.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "1"
"""Version of the meaning of the parameters."""
FORMAT_PARAMETER = "conch_format"
"""Parameter with the format. A Triton model that has it is a public one; else it is a part, or somebody else's."""

SPACE_PARAMETER = "space_id"
"""Parameter with the vector space; it follows from the others, and is not read back."""

_LETTERS = 16  # 64 bits: two of a billion spaces share an id with a probability of 3 %
_REQUIRED = ("tokenizer", "tokenizer_sha256")
_TEXTS = ("architecture", "precision", "description", "source", "revision", "weights_sha256")
_OPTIONAL = (
    *("base", "checkpoint_sha256", "code_sha256", "adapter", "pooling", "similarity"),
    *("pair_template", "default_instruction", "query_model", "bridge_sha256", "bridges_to"),
)
_WITH_DIMENSION = (Task.EMBEDDING, Task.LATE_CHUNKING, Task.MULTI_VECTOR, Task.SPARSE)
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "chunk_ends"})


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One served model.

    Attributes:
        name: What to pass as ``model``.
        task: What it answers: ``embedding``, ``multi-vector`` (a vector for each token), ``late-chunking`` (one for
            each chunk), ``sparse``, ``classification``, or, to rerank, ``late-interaction`` or ``cross-encoder``.
            Members of the enum are equal to these texts.
        base: Name of the model that shares its encoder and was there first; None for one that stands for itself.
        ready: Whether the server can run it now.
        architecture: The checkpoint's architecture, such as ``bert``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        description: One line for people.
        max_length: Most tokens of a text, special tokens included; longer ones are truncated or refused.
        max_characters: Characters of a text that its authors read, and cut longer ones to; None for all.
        max_rows: Most texts in one request to the server; longer lists are split.
        inputs: Names of the tensors that the model takes.
        output: Name of the tensor that it answers (the first, where it answers two).
        tokenizer: Name of the Triton model that serves ``tokenizer.json``.
        tokenizer_sha256: SHA-256 of that file.
        tokenizer_bytes: Its size.
        source: Where the checkpoint came from.
        revision: Which revision of it.
        weights_sha256: SHA-256 of the original weights.
        checkpoint_sha256: SHA-256 of the original weights of all its modules and of their settings; None where the
            export did not record them.
        code_sha256: SHA-256 of the checkpoint's own code; None where none was run.
        adapter: What was merged into the weights: origin and revision of an adapter, or the name of one that the
            checkpoint has itself; None for nothing.
        dimension: Length of a vector, a sparse one's zeros included; None for rerankers and classifiers.
        pooling: How token embeddings become one vector; None where they do not.
        pools_prompt: Whether the tokens of a prompt are pooled with those of the text. Where they are not, the mask of
            a prompt's tokens is 3.
        normalized: Whether the model's vectors have length 1 as served.
        prompts: Texts that may be put before the input, by name.
        default_prompt_name: The prompt that is used when the caller names none; None for none.
        matryoshka_dimensions: Lengths that vectors were trained to be cut to; None when they were not.
        matryoshka_centred: Whether the mean of a vector's numbers is taken from them before it is cut.
        similarity: How its authors compare vectors, ``cosine``, ``dot``, ``euclidean`` or ``manhattan``; None where
            they do not say.
        pair_template: The text that a cross-encoder reads, with ``{query}`` and ``{document}`` in it; None where its
            tokenizer joins them.
        default_instruction: What stands for ``{instruction}`` in that text where the caller states nothing; None where
            the text has no place for one.
        labels: A classifier's labels, in the order of its logits; None for other models.
        activation: How a classifier's logits become scores: ``softmax``, ``sigmoid`` or ``identity``.
        interaction: How queries and documents are written for late interaction; None for alike and as they are.
        skips_first: Whether the first token of a text is left out of its token vectors, as its authors compare them
            without it.
        query_model: Name of the Triton model that answers queries, texts with the prompt ``query``, without the
            encoder; it takes their token ids without special ones. None where the model itself answers all texts.
        bridge_sha256: SHA-256 of the learned map that its vectors pass last; None where they pass none.
        bridges_to: ``space_id`` of the space that this map leads to. The model's vectors approximate those of that
            space, and are not in it. None without a map.
        instances: How many instances of its encoder the server runs; None where it does not say. Does not count when
            two are compared.
    """

    name: str
    task: Task
    base: str | None = None
    ready: bool = True
    architecture: str = ""
    precision: str = ""
    description: str = ""
    max_length: int
    max_characters: int | None = None
    max_rows: int
    inputs: tuple[str, ...]
    output: str
    tokenizer: str
    tokenizer_sha256: str
    tokenizer_bytes: int
    source: str = ""
    revision: str = ""
    weights_sha256: str = ""
    checkpoint_sha256: str | None = None
    code_sha256: str | None = None
    adapter: str | None = None
    dimension: int | None = None
    pooling: str | None = None
    pools_prompt: bool = True
    normalized: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    default_prompt_name: str | None = None
    matryoshka_dimensions: tuple[int, ...] | None = None
    matryoshka_centred: bool = False
    similarity: str | None = None
    pair_template: str | None = None
    default_instruction: str | None = None
    labels: tuple[str, ...] | None = None
    activation: Activation | None = None
    interaction: Interaction | None = None
    skips_first: bool = False
    query_model: str | None = None
    bridge_sha256: str | None = None
    bridges_to: str | None = None
    # How a server runs the model, and not what the model is: servers of one fleet may differ in it.
    instances: int | None = field(default=None, compare=False, repr=False)

    @cached_property
    def space_id(self) -> str | None:
        """The space of its vectors as they are served, 16 hexadecimal digits: a name for vectors that can be compared.

        It is the hash of all that gives vectors their meaning: the checkpoint's weights and settings, its tokenizer,
        what was merged into it, pooling, normalisation, prompts, a bridge's map, and the dimension. It does not depend
        on the model's name, nor on the precision, which moves vectors a little within one space; that is stated beside
        it.

        None for models without vectors, and for those whose export or upstream does not say what they were made from.
        The rule never changes for vectors that stay the same: indexes are recorded under it.
        """
        if self.dimension is None or self.checkpoint_sha256 is None:
            return None
        dense = self.task in (Task.EMBEDDING, Task.LATE_CHUNKING)  # chunks are compared with queries of the other
        meaning = {
            "kind": "dense" if dense else str(self.task),
            "checkpoint": self.checkpoint_sha256,
            "code": self.code_sha256 or "",
            "adapter": self.adapter or "",
            "tokenizer": self.tokenizer_sha256,
            "pooling": self.pooling or "",
            "pools_prompt": self.pools_prompt,
            "normalized": self.normalized,
            "centred": self.matryoshka_centred,
            "prompts": dict(self.prompts),
            "default_prompt": self.default_prompt_name or "",
            "interaction": self.interaction.to_parameter() if self.interaction else "",
            "dimension": self.dimension,
        }
        # No empty entries for all others, whose ids would change.
        if self.bridge_sha256 is not None:
            meaning["bridge"] = self.bridge_sha256
        if self.skips_first:
            meaning["skips_first"] = True
        text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]

    def prompt_text(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
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

    def looks_up(self, prompt: str | None = None, prompt_name: str | None = None) -> bool:
        """Whether texts with this prompt are queries that ``query_model`` answers; arguments as of `prompt_text`."""
        name = self.default_prompt_name if prompt is None and prompt_name is None else prompt_name
        return self.query_model is not None and name == QUERY_PROMPT

    def instruction_text(self, instruction: str | None = None) -> str:
        """The text for ``{instruction}`` of the pair template, the default where the caller states none.

        Raises:
            InvalidInputError: One is stated, and the model has no place for it.
        """
        if instruction is None:
            return self.default_instruction or ""
        if self.pair_template is None or not takes_instruction(self.pair_template):
            raise InvalidInputError(f"instruction: {self.name} reads no instruction; leave it out")
        return instruction

    def to_parameters(self) -> dict[str, str]:
        """The parameters of its `config.pbtxt`, by name.

        ``name``, ``inputs``, ``output``, ``max_rows`` and ``instances`` are not among them: Triton's own fields say
        those.
        """
        embeds = self.dimension is not None
        stated: dict[str, str | None] = {
            FORMAT_PARAMETER: FORMAT,
            "task": str(self.task),
            "max_length": str(self.max_length),
            "tokenizer_bytes": str(self.tokenizer_bytes),
            **{name: getattr(self, name) for name in (*_REQUIRED, *_TEXTS)},
            **{name: getattr(self, name) or None for name in _OPTIONAL},
            "max_characters": str(self.max_characters) if self.max_characters else None,
            "dimension": str(self.dimension) if embeds else None,
            "normalize": json.dumps(self.normalized) if embeds and self.task is not Task.SPARSE else None,
            "pools_prompt": None if self.pools_prompt else "false",
            "matryoshka_dimensions": json.dumps(self.matryoshka_dimensions) if self.matryoshka_dimensions else None,
            "matryoshka_centred": "true" if self.matryoshka_centred else None,
            "labels": json.dumps(self.labels, ensure_ascii=False) if self.labels else None,
            "activation": self.activation,
            "interaction": self.interaction.to_parameter() if self.interaction else None,
            "skips_first": "true" if self.skips_first else None,
            SPACE_PARAMETER: self.space_id,  # for clients of Triton that are not ours
        }
        if embeds or self.prompts:
            stated["prompts"] = json.dumps(dict(self.prompts), sort_keys=True, ensure_ascii=False)
            stated["default_prompt_name"] = self.default_prompt_name or ""
        return {name: value for name, value in stated.items() if value is not None}

    @classmethod
    def from_parameters(
        cls,
        name: str,
        stated: Mapping[str, str],
        *,
        inputs: tuple[str, ...],
        output: str,
        max_rows: int,
        instances: int | None = None,
    ) -> ModelInfo:
        """Reads what `to_parameters` wrote; the other arguments are Triton's own fields of the same configuration.

        Raises:
            DescriptionError: A parameter is missing or malformed, the format is not this release's, or the model takes
                inputs that no export has.
        """
        if stated.get(FORMAT_PARAMETER) != FORMAT:
            raise DescriptionError(
                f"{name} is in repository format {stated.get(FORMAT_PARAMETER)}; this client reads {FORMAT}: "
                "use matching releases of the client and of the exporter"
            )
        if not _INPUTS.issuperset(inputs):
            raise DescriptionError(f"{name} takes inputs that this client does not know: {', '.join(inputs)}")
        try:
            facts = _facts(stated)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise DescriptionError(f"{name} describes itself wrongly ({error!r}): export it again") from error
        return cls(name=name, inputs=inputs, output=output, max_rows=max_rows, instances=instances, **facts)


def _facts(stated: Mapping[str, str]) -> dict[str, Any]:
    task, sizes, template = Task(stated["task"]), stated.get("matryoshka_dimensions"), stated.get("pair_template")
    if template is not None and not is_pair_template(template):
        raise ValueError(f"pair_template is {template!r}, without {{query}} and {{document}} once each")
    labels, activation = stated.get("labels"), stated.get("activation")
    if task is Task.CLASSIFICATION and (not labels or activation not in get_args(Activation)):
        raise ValueError(f"labels are {labels} and activation is {activation!r}")
    return {
        "task": task,
        **{name: stated[name] for name in _REQUIRED},
        **{name: int(stated[name]) for name in ("max_length", "tokenizer_bytes")},
        **{name: stated.get(name, "") for name in _TEXTS},
        **{name: stated.get(name) for name in _OPTIONAL},
        "max_characters": int(stated["max_characters"]) if "max_characters" in stated else None,
        "dimension": int(stated["dimension"]) if task in _WITH_DIMENSION else None,
        "pools_prompt": stated.get("pools_prompt") != "false",
        "normalized": stated.get("normalize") == "true",
        "prompts": dict(json.loads(stated.get("prompts") or "{}")),
        "default_prompt_name": stated.get("default_prompt_name") or None,
        "matryoshka_dimensions": tuple(map(int, json.loads(sizes))) if sizes else None,
        "matryoshka_centred": stated.get("matryoshka_centred") == "true",
        "labels": tuple(map(str, json.loads(labels))) if labels else None,
        "activation": activation,
        "interaction": Interaction.from_parameter(stated["interaction"]) if "interaction" in stated else None,
        "skips_first": stated.get("skips_first") == "true",
    }
