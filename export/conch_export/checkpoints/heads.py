"""A checkpoint's head as data. Hides what its weights are called.

Layers in files of their own beside the weights, as BGE-M3 has them for two more kinds of answer, are read here too. On
the Hub they are pickles, which are never loaded; converted to safetensors, they have the names that are read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from conch_contract import Task

from conch_export.checkpoints.architecture import label_names
from conch_export.checkpoints.known_keys import MODULES
from conch_export.checkpoints.settings import read_settings
from conch_export.checkpoints.weights import Weights
from conch_export.errors import SourceError, UnsupportedError
from conch_export.model.arrays import LazyArray
from conch_export.model.description import (
    CrossEncoder,
    Description,
    EmbeddingModel,
    GenerativeReranker,
    ModularCrossEncoder,
    MultiVectorModel,
    Pooling,
    SparseModel,
)
from conch_export.model.heads import Dense, Lexical, LogOdds, Pooled, Projection, Static, Unit, Vocabulary
from conch_export.model.network import Linear
from conch_export.model.public_models import public_models
from conch_export.sources.files import weight_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from conch_export.checkpoints.checkpoint import Checkpoint
    from conch_export.checkpoints.lookups.static import StaticFiles
    from conch_export.model.description import ModuleLayer
    from conch_export.model.heads import Head, HeadLayer
    from conch_export.model.network import Norm
    from conch_export.model.public_models import PublicModel


class _Layout(NamedTuple):
    """Names of a head's layers, its activation and its pooling.

    Attributes:
        dense: name of the first layer; None for none.
        norm: name of the norm after it; None for none.
        output: name of the last layer.
        activation: after the first layer, unless `activation_setting` states another.
        pooling: of the token embeddings, unless `pooling_setting` states another.
        activation_setting: key of config.json.
        pooling_setting: key of config.json.
    """

    dense: str | None
    norm: str | None
    output: str
    activation: str = "tanh"
    pooling: str = "cls"
    activation_setting: str = ""
    pooling_setting: str = ""


_POOLER = _Layout("pooler.dense", None, "classifier")
_ROBERTA = _Layout("classifier.dense", None, "classifier.out_proj")
_DEBERTA = _Layout("pooler.dense", None, "classifier", "gelu", activation_setting="pooler_hidden_act")
_MODERNBERT = _Layout(
    "head.dense", "head.norm", "classifier", "gelu", "cls", "classifier_activation", "classifier_pooling"
)
_DECODER = _Layout(None, None, "score", pooling="last")
_CLASSIFIERS = {
    **dict.fromkeys(("bert", "ernie", "nomic_bert", "new", "gte"), _POOLER),
    **dict.fromkeys(("roberta", "xlm-roberta", "jina_embeddings_v3", "camembert", "data2vec-text", "mpnet"), _ROBERTA),
    **dict.fromkeys(("deberta", "deberta-v2"), _DEBERTA),
    **dict.fromkeys(("qwen3", "qwen2", "llama", "mistral", "gemma", "gemma2", "gemma3_text"), _DECODER),
    "electra": _ROBERTA._replace(activation="gelu"),
    "distilbert": _Layout("pre_classifier", None, "classifier", "relu"),
    "modernbert": _MODERNBERT,
}
"""By model_type: the sequence classifiers of transformers, and of the authors of `new` and `nomic_bert`."""
_BERT = "cls.predictions.transform"
_VOCABULARIES = (
    _Layout(f"{_BERT}.dense", f"{_BERT}.LayerNorm", "cls.predictions.decoder", "gelu", activation_setting="hidden_act"),
    _Layout("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "gelu"),
    _Layout("lm_head.dense", "lm_head.norm", "lm_head.decoder", "gelu", activation_setting="hidden_act"),
    _Layout("vocab_transform", "vocab_layer_norm", "vocab_projector", "gelu", activation_setting="activation"),
    _Layout("head.dense", "head.norm", "decoder", "gelu", activation_setting="classifier_activation"),
)
"""Heads of masked language models: of BERT, RoBERTa and its relatives, GTE, DistilBERT and ModernBERT."""
LEXICAL, COLBERT = "sparse_linear", "colbert_linear"
_WEIGHTLESS = ("cls_token", "eos_token", "pad_token", "unk_token")
"""Tokens whose lexical weights the authors of BGE-M3 and GTE leave out, by transformers' names of them."""
_CONVERT = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{0}.pt', weights_only=True), '{0}.safetensors')\""
)
_LAYER_NORM_EPSILON = 1e-5
"""Of torch's `nn.LayerNorm`, which sentence-transformers leaves as it is."""
_EMBEDDINGS = ("embeddings.word_embeddings", "embeddings.tok_embeddings", "embed_tokens")
"""Names of the embedding table, whose weights many a decoder shares."""
_HEAD, _TIED = "lm_head", "tie_word_embeddings"


def read_head(description: Description, model: PublicModel, checkpoint: Checkpoint) -> Head:
    """The head of a public model."""
    if model.task in (Task.EMBEDDING, Task.LATE_CHUNKING, Task.CROSS_ENCODER, Task.CLASSIFICATION):
        return read_pooled(description, checkpoint)
    if model.task is not Task.SPARSE:
        return read_projection(description, checkpoint)
    return read_lexical(description, checkpoint) if model.base else read_vocabulary(description, checkpoint)


def read_token(description: Description, checkpoint: Checkpoint) -> Pooling | None:
    """The one token of a text of which every answer is made, the first (`CLS`) or the last; None for several."""
    model, *derived = public_models(description)
    if derived or model.head is None:
        return None
    head = read_head(description, model, checkpoint)
    if not isinstance(head, Pooled) or not head.pools_prompt:
        return None
    return head.pooling if head.pooling in (Pooling.CLS, Pooling.LAST) else None


def read_pooled(description: Description, checkpoint: Checkpoint) -> Pooled:
    """The head of an embedding model, a cross-encoder or a classifier."""
    match description:
        case EmbeddingModel(pooling=pooling, dense=dense, normalize=normalize):
            layers = (*_layers(checkpoint, dense), *([Unit()] if normalize else []))
            return Pooled(pooling, layers, description.pools_prompt)
        case ModularCrossEncoder(pooling=pooling, layers=layers):
            return Pooled(pooling, _layers(checkpoint, layers))
        case GenerativeReranker(score_tokens=(yes, no)):
            return Pooled(Pooling.LAST, (Dense(_logit_difference(checkpoint, yes, no)),))
        case CrossEncoder(label=label, exclusive=exclusive):
            return _read_classifier(checkpoint, label, exclusive=exclusive)
        case _:
            return _read_classifier(checkpoint)


def read_static(description: EmbeddingModel, files: StaticFiles, checkpoint: Checkpoint) -> Static:
    """A static embedding model."""
    layers = (*_layers(checkpoint, description.dense), *([Unit()] if description.normalize else []))
    table = LazyArray(files.shape, lambda: files.table)
    return Static(table, description.max_length, files.unknown, layers)


def read_query_weights(checkpoint: Checkpoint) -> NDArray[np.float32]:
    """[vocabulary]: the weight of each token of a query, of a model whose queries pass no encoder."""
    folder = checkpoint.folder / checkpoint.query_folder
    read_settings(folder / "config.json").refuse_unknown(MODULES["SparseStaticEmbedding"])
    return np.asarray(Weights.load(weight_files(folder)).array("weight"))


def read_projection(description: Description, checkpoint: Checkpoint) -> Projection:
    """The layers between the encoder and late interaction."""
    if isinstance(description, EmbeddingModel):
        layer = read_extra(checkpoint, COLBERT)
        return Projection((Dense(layer),) if layer else (), skips_first=description.skips_first)
    if isinstance(description, MultiVectorModel) and (description.dense or "linear.weight" not in checkpoint.weights):
        return Projection(_layers(checkpoint, description.dense))
    return Projection((Dense(checkpoint.weights.linear("linear")),))


def read_vocabulary(description: Description, checkpoint: Checkpoint) -> Vocabulary:
    """The head of a masked language model."""
    weights, layout = checkpoint.weights, _vocabulary_layout(checkpoint)
    norm = _norm(checkpoint, str(layout.norm))
    decoder = Linear(_decoder_table(checkpoint, layout.output).T, _decoder_bias(weights, layout.output))
    layers = (Dense(weights.linear(str(layout.dense)), _activation(checkpoint, layout)), norm)
    return Vocabulary(layers, decoder, description.logarithms if isinstance(description, SparseModel) else 1)


def _vocabulary_layout(checkpoint: Checkpoint) -> _Layout:
    """The layout that the checkpoint has both layers before the decoder of; the decoder may be the embedding table."""
    begun = [layout for layout in _VOCABULARIES if f"{layout.dense}.weight" in checkpoint.weights]
    whole = next((layout for layout in begun if f"{layout.norm}.weight" in checkpoint.weights), None)
    if whole is not None:
        return whole
    msg = f"{checkpoint.folder.name} has no masked language model's head that is built: --task sparse needs one"
    if begun:
        msg += f" (it has {begun[0].dense}, and no norm {' or '.join(str(layout.norm) for layout in begun)})"
    raise UnsupportedError(msg)


def read_lexical(description: Description, checkpoint: Checkpoint) -> Lexical:
    """The lexical head of BGE-M3 and GTE."""
    layer = read_extra(checkpoint, LEXICAL)
    if layer is None:
        raise SourceError(f"the checkpoint has no {LEXICAL}.safetensors: fetch it again")
    special = checkpoint.served_tokenizer.special
    tokens = {special[name] for name in _WEIGHTLESS if name in special}
    skipped = sorted(map(checkpoint.token_id, filter(checkpoint.has_token, tokens)))
    return Lexical(layer, description.vocabulary, tuple(skipped))


def read_extra(checkpoint: Checkpoint, name: str) -> Linear | None:
    """The layer in a file of that name, or among the weights; None where there is none.

    Raises:
        UnsupportedError: there is one, but a pickle.
    """
    path = checkpoint.folder / f"{name}.safetensors"
    if path.exists():
        weights = Weights.load([path])
        bias = np.asarray(weights.array("bias")) if "bias" in weights else None
        return Linear(weights.array("weight").T, bias)
    if _is_among_weights(checkpoint, name):
        return checkpoint.weights.linear("classifier")
    if (checkpoint.folder / f"{name}.pt").exists():
        msg = f"{name}.pt is a pickle, which can run code and is never loaded: convert it, {_CONVERT.format(name)}"
        raise UnsupportedError(msg)
    return None


def _is_among_weights(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the weights end in GTE's classifier of tokens, whose one label is the weight of a token.

    A classifier of texts has a pooler before it.
    """
    if name != LEXICAL or checkpoint.model_type not in ("new", "gte"):
        return False
    weights = checkpoint.weights
    if "classifier.weight" not in weights or "pooler.dense.weight" in weights:
        return False
    return weights.array("classifier.weight").shape[0] == 1


def extra_width(checkpoint: Checkpoint, name: str) -> int:
    """Length of the vectors that the layer of that name gives; 0 where there is none that can be read."""
    is_readable = (checkpoint.folder / f"{name}.safetensors").exists() or _is_among_weights(checkpoint, name)
    layer = read_extra(checkpoint, name) if is_readable else None
    return 0 if layer is None else int(layer.weight.shape[1])


def has_lexical(checkpoint: Checkpoint, asked: bool | None) -> bool:  # noqa: FBT001 - mirrors the override
    """Whether lexical weights are served: as the operator states, else if the checkpoint has the layer.

    Raises:
        UnsupportedError: the operator wants them and the checkpoint has no layer for them.
    """
    if asked is None:
        return extra_width(checkpoint, LEXICAL) > 0
    if asked and read_extra(checkpoint, LEXICAL) is None:
        msg = (
            f"--lexical needs {LEXICAL}.safetensors beside the checkpoint; from the pickle that its authors publish: "
            f"{_CONVERT.format(LEXICAL)}"
        )
        raise UnsupportedError(msg)
    return asked


def _layers(checkpoint: Checkpoint, layers: Iterable[ModuleLayer]) -> tuple[HeadLayer, ...]:
    """The layers that sentence-transformers keeps in folders of their own."""
    read: list[HeadLayer] = []
    for layer in layers:
        if layer.kind == "Normalize":
            read.append(Unit())
            continue
        weights = Weights.load(weight_files(checkpoint.folder / layer.folder))
        if layer.kind == "Dense":
            residual = _residual(weights) if layer.residual else None
            read.append(Dense(weights.linear("linear"), layer.activation, residual))
        else:
            read.append(weights.norm("norm", _LAYER_NORM_EPSILON))
    return tuple(read)


def _residual(weights: Weights) -> Linear:
    """What sentence-transformers adds to a layer: its input, or where the widths differ the input through a layer."""
    if "residual.weight" in weights:
        return weights.linear("residual")
    return Linear(np.eye(weights.linear("linear").weight.shape[0], dtype=np.float32))


def refuse_unfit_classifier(checkpoint: Checkpoint) -> None:
    """Refuse a classifier whose layers are not known, as they are not guessed, or that scores a token before the last.

    transformers' decoders score the last token of a text that is not `pad_token_id`.

    Raises:
        UnsupportedError: it is one of these.
    """
    model_type, config = checkpoint.model_type, checkpoint.config
    if model_type not in _CLASSIFIERS:
        msg = f"cross-encoders of architecture {model_type!r} are not built, only those of {', '.join(_CLASSIFIERS)}"
        raise UnsupportedError(msg)
    if _CLASSIFIERS[model_type] is not _DECODER or (last := checkpoint.token_behind_texts()) is None:
        return
    if last == config.get("pad_token_id"):
        msg = (
            f"{config.place} states pad_token_id = {last}, which the tokenizer puts behind every text "
            f"({checkpoint.token(last)}): transformers scores the token before it, which is not built. Export a copy "
            "of the folder whose tokenizer.json does not add it (post_processor): a decoder's scores are the same "
            "then, as no token sees those behind it"
        )
        raise UnsupportedError(msg)


def _read_classifier(checkpoint: Checkpoint, label: int | None = None, *, exclusive: bool = True) -> Pooled:
    """The head of a sequence classifier: all logits, or the log-odds of one label."""
    weights, config, layout = checkpoint.weights, checkpoint.config, _CLASSIFIERS[checkpoint.model_type]
    layers: list[HeadLayer] = []
    if layout.dense is not None:
        layers.append(Dense(weights.linear(layout.dense), _activation(checkpoint, layout)))
    if layout.norm is not None:
        layers.append(_norm(checkpoint, layout.norm))
    output = _label_layer(checkpoint, layout.output)
    if label is None or exclusive:
        layers.append(Dense(output))
    else:
        bias = None if output.bias is None else output.bias[[label]]
        layers.append(Dense(Linear(np.ascontiguousarray(output.weight[:, [label]]), bias)))
    if label is not None and exclusive:
        layers.append(LogOdds(label, output.weight.shape[1]))
    return Pooled(Pooling(config.get(layout.pooling_setting, layout.pooling)), tuple(layers))


def _label_layer(checkpoint: Checkpoint, name: str) -> Linear:
    """The layer that gives the logits."""
    layer, labels = checkpoint.weights.linear(name), label_names(checkpoint.stated_config)
    if layer.weight.shape[1] != len(labels):
        msg = (
            f"tensor {name}.weight gives {layer.weight.shape[1]} logits, but config.json states {len(labels)} labels "
            f"({', '.join(labels)}): fetch the checkpoint again"
        )
        raise SourceError(msg)
    return layer


def _activation(checkpoint: Checkpoint, layout: _Layout) -> str:
    return str(checkpoint.config.get(layout.activation_setting, layout.activation))


def _norm(checkpoint: Checkpoint, name: str) -> Norm:
    # ModernBERT's published files state both, and its authors read the first.
    epsilon = next(
        (checkpoint.config[key] for key in ("norm_eps", "layer_norm_eps") if key in checkpoint.config), 1e-12
    )
    return checkpoint.weights.norm(name, float(epsilon))


def _logit_difference(checkpoint: Checkpoint, yes: str, no: str) -> Linear:
    """The logit of one token less that of the other, as one layer."""
    table = _decoder_table(checkpoint, _HEAD)
    chosen, other = (table[number : number + 1] for number in map(checkpoint.token_id, (yes, no)))
    return Linear(np.ascontiguousarray(np.subtract(chosen, other, dtype=np.float32).T))


def _decoder_table(checkpoint: Checkpoint, name: str) -> LazyArray:
    """[vocabulary, hidden]: the decoder's own weight, or the embedding table where config.json says that it is that.

    Raises:
        SourceError: there is none.
        UnsupportedError: it should be the embedding table, and is stored as another.
    """
    weights, own = checkpoint.weights, f"{name}.weight"
    tied = checkpoint.config.of(_TIED, bool, default=True)
    table = next((f"{each}.weight" for each in _EMBEDDINGS if tied and f"{each}.weight" in weights), own)
    if table not in weights:
        msg = f"the checkpoint has no tensor '{own}', and config.json does not say that it is the embedding table"
        raise SourceError(f"{msg} ({_TIED}): fetch it again")
    if table != own:
        weights.refuse_apart(own, table, f"config.json does not state {_TIED} = false")
    return weights.array(table)


def _decoder_bias(weights: Weights, name: str) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    own, outer = f"{name}.bias", f"{name.rpartition('.')[0]}.bias"
    weights.refuse_apart(own, outer, "a decoder has one bias")
    return next((np.asarray(weights.array(each)) for each in (own, outer) if each in weights), None)
