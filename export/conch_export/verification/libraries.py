"""A checkpoint loaded by its authors' libraries: sentence-transformers, the way its kind of model is loaded there.

Where transformers does not implement the architecture, its first module is conch's own plain PyTorch; tokenizer,
pooling and layers are the library's all the same.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import sentence_transformers
import torch
import transformers
from conch_contract import Task
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize, Pooling
from tokenizers import Tokenizer

from conch_export.checkpoints import remote_code
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.generations.installed import as_installed
from conch_export.checkpoints.heads import read_pooled, read_vocabulary
from conch_export.checkpoints.tokenizer import load_tokenizer
from conch_export.checkpoints.usage import known_usage, read_prompts
from conch_export.families import family_of
from conch_export.model.description import Description, Overrides, StaticModel
from conch_export.model.description import Pooling as PoolingKind
from conch_export.verification import plain
from conch_export.verification.loading import loading, processor_of, see_both_ways
from conch_export.verification.plain import PlainEncoder, PlainModule
from conch_export.verification.samples import Item, Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conch_export.verification.plain import Encode

_CLASSIFIERS = (Task.CROSS_ENCODER, Task.CLASSIFICATION)
_CLASSES = {**dict.fromkeys(_CLASSIFIERS, CrossEncoder), Task.SPARSE: SparseEncoder}
_MODULES = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize, "LayerNorm": LayerNorm}
_POOLING_MODES = {
    PoolingKind.LAST: "lasttoken",
    PoolingKind.WEIGHTED_MEAN: "weightedmean",
    PoolingKind.MEAN_SQRT_LENGTH: "mean_sqrt_len_tokens",
}
"""Where the library's names differ from ours."""
_OUTPUTS = {
    Task.EMBEDDING: ("token_embeddings", "sentence_embedding"),
    Task.MULTI_VECTOR: ("token_embeddings",),
    Task.SPARSE: ("sentence_embedding",),  # its token_embeddings are all logits of a vocabulary
    **dict.fromkeys(_CLASSIFIERS, ("scores",)),
}


class Library:
    """A model of sentence-transformers, run item by item.

    Attributes:
        name: who computes.
    """

    def __init__(
        self, name: str, model: Any, prompts: Mapping[str | None, str | None], outputs: tuple[str, ...]
    ) -> None:
        self.name = name
        self._model = model
        self._prompts = prompts
        self._outputs = outputs
        self._routes = isinstance(model[0], Router)
        self._known: dict[Item, dict[str, Any]] = {}
        self._computed: dict[str, dict[str, torch.Tensor]] = {}

    def ids(self, item: Item) -> list[int]:
        """The tokens of an item."""
        ids: list[int] = self._features(item)["input_ids"].flatten().tolist()
        return ids

    def cut_ids(self, text: str, length: int) -> list[int]:
        """The tokens of a bare text, at most so many."""
        ids: list[int] = self._model.tokenizer(text, truncation=True, max_length=length)["input_ids"]
        return ids

    def __call__(self, item: Item) -> tuple[list[int], dict[str, torch.Tensor]]:
        """An item's tokens, and the outputs of the modules (see `reference.Answer`).

        Late interaction reads most texts as the embedding model does: what is equal is computed once.
        """
        features = self._features(item)
        ids = features["input_ids"].flatten().tolist()
        key = repr({name: value.tolist() if torch.is_tensor(value) else value for name, value in features.items()})
        if key not in self._computed:
            outputs = self._model(features)
            self._computed[key] = {name: outputs[name][0].float() for name in self._outputs}
        return ids, self._computed[key]

    def token_vectors(self, ids: list[int], masked: int) -> torch.Tensor:
        """FP32 [tokens, hidden] of a row whose last tokens are masked."""
        features = {"input_ids": torch.tensor([ids]), "attention_mask": _mask(len(ids), masked)}
        vectors: torch.Tensor = self._model[0](features)["token_embeddings"][0]
        return vectors

    def pooled(self, tokens: torch.Tensor) -> torch.Tensor:
        """FP32 [dimension] of FP32 [tokens, hidden], by the modules after the first."""
        features = {"token_embeddings": tokens[None], "attention_mask": _mask(len(tokens), 0)}
        for module in list(self._model)[1:]:
            features = module(features)
        vector: torch.Tensor = features["sentence_embedding"][0]
        return vector

    @property
    def weightless(self) -> set[int | None]:
        """Ids of the tokens that lexical weights leave out, as the code of BGE-M3's and of GTE's authors has it."""
        tokenizer = self._model.tokenizer
        return {tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}

    def _features(self, item: Item) -> dict[str, Any]:
        """Return the input of the first module, made once for each item; a copy, because modules add to it."""
        if item not in self._known:
            self._known[item] = self._tokenised(item)
        return dict(self._known[item])

    def _tokenised(self, item: Item) -> dict[str, Any]:
        text: Any = (item.query, item.text) if item.role is Role.PAIR else item.text
        # A query or a document of late interaction is compared as it is.
        prompt = self._prompts.get(item.prompt_name) if item.role in (Role.TEXT, Role.PAIR) else ""
        options: dict[str, Any] = {}
        if self._routes and item.role is not Role.TEXT:
            options, prompt = {"task": item.role.value}, self._model.prompts.get(item.role.value, "")
        features: dict[str, Any] = self._model.preprocess([text], prompt=prompt, **options)
        return features


def load_library(description: Description, overrides: Overrides) -> Library:
    """Load a description's checkpoint.

    Raises:
        VerificationError: the library cannot load it.
    """
    with loading(description.name, "sentence-transformers"):
        name, model = _load(description)
    model = _overridden(model.eval(), description, overrides)
    if description.task is Task.EMBEDDING and not known_usage(description.source).pools_prompt:
        model.set_pooling_include_prompt(include_prompt=False)  # as the library does for what has these Hub ids
    if isinstance(model[0], Transformer):
        see_both_ways(model[0].model)
    _prepare_tokenizer(model, description, overrides)
    chat = Checkpoint.of(description.source).chat
    if chat is not None and chat.has_processor:
        model[0].processor = processor_of(model[0].tokenizer)
    outputs = _OUTPUTS[description.task] if not isinstance(description, StaticModel) else ("sentence_embedding",)
    return Library(name, model, _prompts(model, description, overrides), outputs)


def _load(description: Description) -> tuple[str, Any]:
    """Return the name of the library that computes, and the model as it has loaded it."""
    checkpoint, trusted = Checkpoint.of(description.source), bool(description.source.code_sha256)
    family = family_of(checkpoint.config) if checkpoint.static is None else None
    name = f"sentence-transformers {sentence_transformers.__version__}"
    if family is not None and not family.in_transformers:
        encoder = family.read_encoder(checkpoint.config, checkpoint.weights)
        first = _plain_module(description, checkpoint, PlainEncoder(encoder), encoder.max_length)
        return f"{plain.NAME}, {name}", _of_modules(description, checkpoint, first)
    if trusted and "tokenizer_class" not in checkpoint.settings("tokenizer_config.json"):
        encode = _own_code(checkpoint.transformer)
        first = _plain_module(description, checkpoint, encode, description.max_length)
        return f"the checkpoint's own code, {name}", _of_modules(description, checkpoint, first)
    name += ", the checkpoint's own code" if trusted else f", transformers {transformers.__version__}"
    name += f", peft {version('peft')}" if checkpoint.has_peft_adapter else ""
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "use_safetensors": True}
    if family is not None and family.key_mapping:
        options["key_mapping"] = dict(family.key_mapping)
    more: dict[str, Any] = {"model_kwargs": options, "local_files_only": True, "trust_remote_code": trusted}
    with as_installed(checkpoint, trusted=trusted) as folder:
        if description.task is Task.SPARSE or (checkpoint.modules and description.task is not Task.MULTI_VECTOR):
            library = _CLASSES.get(description.task, SentenceTransformer)
            return name, library(str(folder), device="cpu", **more)
        return name, _of_modules(description, checkpoint, _transformer(folder, description.task, **more))


def _plain_module(description: Description, checkpoint: Checkpoint, encode: Encode, positions: int) -> PlainModule:
    """The first module of a checkpoint whose encoder the library cannot load."""
    heads = {**dict.fromkeys(_CLASSIFIERS, read_pooled), Task.SPARSE: read_vocabulary}
    read: Any = heads.get(description.task)
    tokenizer = load_tokenizer(
        checkpoint.transformer,
        checkpoint.model_type,
        checkpoint.tokenizer_arguments,
        lower_case=checkpoint.lower_cases,
    )
    length = min(int(tokenizer.model_max_length), positions)
    head = read(description, checkpoint) if read else None
    return PlainModule(tokenizer, encode, length, head, segments=description.segments)


def _own_code(folder: Path) -> Encode:
    """The encoder of a checkpoint's own code, whose tokenizer the library cannot tell by its name."""
    model = remote_code.load(folder)

    def encode(ids: list[int], _: list[int], masked: int) -> torch.Tensor:
        found = model(input_ids=torch.tensor([ids]), attention_mask=_mask(len(ids), masked))
        vectors: torch.Tensor = found.last_hidden_state[0]
        return vectors

    return encode


def _mask(length: int, masked: int) -> torch.Tensor:
    return torch.tensor([[1] * (length - masked) + [0] * masked])


def _transformer(folder: Path, task: Task, **more: Any) -> Any:
    """The first module of a checkpoint that lists none, or whose list is another library's."""
    settings = Transformer._load_init_kwargs(str(folder), **more)
    if task in _CLASSIFIERS:  # what it reads is inferred as by CrossEncoder, which may make messages of pairs
        settings |= {"transformer_task": "sequence-classification", "modality_config": None}
    else:
        text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
        settings |= {"transformer_task": "feature-extraction", "modality_config": text}
        settings["module_output_name"] = "token_embeddings"
    return Transformer(str(folder), **settings)


def _of_modules(description: Description, checkpoint: Checkpoint, first: Any) -> Any:
    """A first module, and those after it of a checkpoint that the library does not load by itself."""
    folder, modules = str(checkpoint.folder), [first]
    if description.task is Task.EMBEDDING:
        listed = [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in checkpoint.modules]
        modules += [_MODULES[kind].load(folder, subfolder=path) for kind, path in listed if kind in _MODULES]
    return _CLASSES.get(description.task, SentenceTransformer)(modules=modules, device="cpu")


def _overridden(model: Any, description: Description, overrides: Overrides) -> Any:
    """The model with the pooling and the normalisation that the operator states."""
    if description.task is not Task.EMBEDDING:
        return model
    modules = list(model)
    if overrides.pooling is not None:
        mode = _POOLING_MODES.get(overrides.pooling, overrides.pooling.value)
        pools_prompt = all(module.include_prompt for module in modules if isinstance(module, Pooling))
        modules = [modules[0], *(module for module in modules[1:] if not isinstance(module, Pooling))]
        modules.insert(1, Pooling(description.hidden, pooling_mode=mode, include_prompt=pools_prompt))
    if overrides.normalize is not None:
        modules = [module for module in modules if not isinstance(module, Normalize)]
        modules += [Normalize()] if overrides.normalize else []
    prompts, default = model.prompts, model.default_prompt_name
    changed = SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name=default)
    return changed.eval()


def _prepare_tokenizer(model: Any, description: Description, overrides: Overrides) -> None:
    tokenizer = model.tokenizer
    if isinstance(tokenizer, Tokenizer):  # of a static model: the library sets no limit
        tokenizer.enable_truncation(description.max_length)
        return
    if isinstance(model[0], Transformer):
        taken = inspect.signature(model[0].model.forward).parameters
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    if tokenizer.pad_token is None:  # the library pads even a single text, by nothing
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    lengths = [overrides.max_length or model.max_seq_length, *map(_usable_positions, model.modules())]
    model.max_seq_length = min(length for length in lengths if length is not None)
    if isinstance(model[0], Router):  # whose queries are cut where their own tokenizer says
        routes: Any = model[0].sub_modules
        for modules in routes.values():
            modules[0].tokenizer.model_max_length = model.max_seq_length


def _usable_positions(module: Any) -> int | None:
    """Most tokens that fit a table of positions: the library lets longer texts fail. None where there is no table."""
    table = getattr(module, "position_embeddings", None)
    if not isinstance(table, torch.nn.Embedding):
        return None
    return int(table.num_embeddings) - (0 if table.padding_idx is None else table.padding_idx + 1)


def _prompts(model: Any, description: Description, overrides: Overrides) -> dict[str | None, str | None]:
    """What is put before a text, by the name of a prompt, and as None for texts of which nothing is said.

    The library's own, unless the operator or the authors elsewhere state others.
    """
    stated = any(model.prompts.values()) or model.default_prompt_name
    if stated and overrides.prompts is None and overrides.default_prompt is None:
        prompts, default = model.prompts, model.default_prompt_name
    elif (checkpoint := Checkpoint.of(description.source)).chat is None:
        prompts, default = description.prompts, description.default_prompt_name
    else:  # instructions, which the library itself puts into a conversation
        prompts, default = read_prompts(checkpoint, known_usage(description.source), overrides)
    return {**prompts, None: prompts.get(default) if default else None}
