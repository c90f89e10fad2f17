"""config.json as the installed transformers means it. Hides its defaults, and what version 5 changed in its form.

Since transformers 5 rotary positions are one object, `rope_parameters`, ModernBERT lists the kind of every layer, and
NomicBERT has BERT's keys instead of, or beside, GPT-2's.
What config.json states and nobody would look at is refused here.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from conch_export.checkpoints.known_keys import CONFIG_WITHOUT_EFFECT, MATRYOSHKA
from conch_export.checkpoints.settings import Settings, states_something
from conch_export.errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_LANGUAGE_MODELS = {"qwen2_5_vl": "qwen2_5_vl_text", "qwen3_vl": "qwen3_vl_text"}
"""Architectures that read more than text, and those of the language models in them, which are read alone."""
_BASES = {
    "modernbert": {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"},
    "gemma3_text": {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"},
}
"""Keys of transformers 4 for the rotary base of each kind of layer, of architectures with more than one kind."""
_DEFAULT_ROPE = {"rope_type": "default"}
_TURNED = "partial_rotary_factor"
_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
    "rope_theta": "rotary_emb_base",
}
"""The keys of NomicBERT's own code, by those of transformers 5."""
_NEWER = ("is_causal", "use_bidirectional_attention")
"""Keys that change what a decoder sees, where the installed transformers may not know them."""
_MAY_BE_ZERO = {
    "conv_kernel_size",
    "moe_every_n_layers",
    "num_experts",
    "num_shared_experts",
    "pad_token_id",
    "type_vocab_size",
    "sliding_window",
}
_LEAST = dict.fromkeys(("max_relative_positions", "position_buckets"), -1)
"""Keys whose -1 is what others say by null."""
_NULL_IS_A_VALUE = {"head_dim", "local_rope_theta", "num_key_value_heads", "sliding_window"}
"""Keys whose null transformers does not replace by its default: it takes other keys for them, or no window."""
_DERIVED = {"dense_act_fn", "is_gated_act", "pooler_hidden_size"}
"""Keys that transformers derives from others although they are no parameters of a configuration."""
_MOST = 1 << 22
"""More than any true size; a larger number is a damaged one."""


def in_this_generation(stated: Settings) -> Settings:
    """config.json in the form of transformers 4, which families read.

    Raises:
        UnsupportedError: it states something that transformers 4 has no form for.
        SourceError: it is damaged.
    """
    if stated.get("model_type") in _LANGUAGE_MODELS:
        stated = _language_model(stated)
    values = dict(stated)
    if stated.get("rope_parameters") is not None:
        del values["rope_parameters"]
        values.update(rotary := _rotary(stated))
        older = stated.get("rope_scaling")
        if states_something(older) and older != rotary.get("rope_scaling"):
            msg = f"{stated.place} states rope_scaling = {older!r}, and another scaling in rope_parameters"
            raise UnsupportedError(f"{msg}: export a copy of the folder with the one that is meant")
    if stated.get("model_type") == "modernbert" and stated.get("layer_types") is not None:
        values["global_attn_every_n_layers"] = _period(stated.texts("layer_types"), stated)
        del values["layer_types"]
    if stated.get("model_type") == "nomic_bert":
        values = _of_nomic(values, stated)
    if isinstance(kinds := stated.get("pos_att_type"), str):
        values["pos_att_type"] = [kind.strip() for kind in kinds.lower().split("|")]
    return Settings(stated.place, values)


@lru_cache
def defaults(model_type: str) -> Mapping[str, Any]:
    """Transformers' defaults for config.json of this architecture; empty for an architecture that it does not have.

    A default that transformers derives from other keys, such as the width of a head, is None.
    """
    # Imported late: it loads PyTorch.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: PLC0415

    if model_type not in CONFIG_MAPPING:
        return {}
    try:
        values: dict[str, Any] = CONFIG_MAPPING[model_type]().to_dict()
        parameters = signature(CONFIG_MAPPING[model_type]).parameters
    except (AssertionError, TypeError, ValueError):  # those that join two architectures have none
        return {}
    derived = {key for key in values if key in _DERIVED or (key in parameters and parameters[key].default is None)}
    return {key: None if key in derived else value for key, value in values.items()}


def with_defaults(stated: Settings) -> Settings:
    """config.json with transformers' defaults for what it does not state; a key that neither has is a SourceError."""
    values = {key: value for key, value in stated.items() if value is not None or key in _NULL_IS_A_VALUE}
    return Settings(stated.place, {**defaults(str(stated["model_type"])), **values})


def label_names(stated: Settings) -> tuple[str, ...]:
    """Labels of a classifier: those it names, else `num_labels` of transformers' names, two where it states nothing.

    Raises:
        SourceError: they are not numbered from 0 on.
    """
    named = stated.inner("id2label")
    if not named:
        return tuple(f"LABEL_{number}" for number in range(stated.of("num_labels", int, 2)))
    numbers = [str(number) for number in range(len(named))]
    if set(named) != set(numbers):
        raise stated.wrong("id2label", f"an object with a text for each of 0 to {len(named) - 1}")
    return tuple(named.of(number, str, "") for number in numbers)


def refuse_unread(stated: Settings, read: Collection[str] | None) -> None:
    """Refuse what config.json states and nobody would look at, though it may change what the model computes.

    Args:
        stated: config.json in the form of `in_this_generation`.
        read: the keys that a family knows; None where there is no family and transformers itself computes.

    Raises:
        UnsupportedError: there is such a key.
    """
    known = defaults(str(stated["model_type"]))
    for key, value in stated.items():
        is_read = key in read if read is not None else key not in _NEWER
        if is_read or key in CONFIG_WITHOUT_EFFECT or key in ("auto_map", MATRYOSHKA) or key.startswith("_"):
            continue
        if not states_something(value) or (key in known and (known[key] == value or read is None)):
            continue
        msg = (
            f"{stated.place} states {key} = {value!r}, which is not built for {stated['model_type']!r} and may change "
            "what it computes: export a copy of the folder whose config.json does not state it, if you know that it "
            "does not"
        )
        raise UnsupportedError(msg)


def refuse_wrong_types(stated: Settings, read: Mapping[str, type]) -> None:
    """Raise SourceError for values of a type or size that a family cannot compute with."""
    for key, kind in read.items():
        if stated.get(key) is None:
            continue
        value = stated.of(key, kind, kind())
        least = 0 if key in _MAY_BE_ZERO else _LEAST.get(key, 1)
        if kind is int and not least <= value <= _MOST:
            raise stated.wrong(key, f"a whole number from {least} to {_MOST}")
        if kind is float and not 0 < value < 1e12:
            raise stated.wrong(key, "a number above 0")


def _language_model(stated: Settings) -> Settings:
    """The settings of the language model; before transformers 4.52 they stood beside `vision_config`."""
    outer = {key: value for key, value in stated.items() if key != "text_config"}
    values = {**outer, **stated.inner("text_config"), "model_type": _LANGUAGE_MODELS[stated["model_type"]]}
    return Settings(stated.place, values)


def _rotary(stated: Settings) -> dict[str, Any]:
    parameters = stated.inner("rope_parameters")
    kinds = _BASES.get(str(stated.get("model_type")), {})
    nested = {key for key, value in parameters.items() if isinstance(value, dict)}
    if not nested:
        only = next(iter(kinds.values()), "rope_theta")
        return {"rope_scaling": _scaling(parameters), **_beside(parameters, only)}
    if nested != set(parameters) or not nested <= set(kinds):
        msg = (
            f"{parameters.place} = {dict(parameters)!r} is not built for {stated.get('model_type')!r} (known for each "
            f"kind of layer: {', '.join(kinds) or 'none'})"
        )
        raise UnsupportedError(msg)
    values: dict[str, Any] = {}
    for kind in sorted(nested):
        one = parameters.inner(kind)
        values |= _beside(one, kinds[kind])
        if (scaling := _scaling(one)) is not None:
            if kind != next(iter(kinds)):
                raise UnsupportedError(
                    f"{one.place} = {dict(one)!r} is not built: only positions of global layers scale"
                )
            values["rope_scaling"] = scaling
    return values


def _beside(parameters: Settings, base: str) -> dict[str, Any]:
    """The base under this key, and how much of a head turns: what transformers 4 reads beside these settings.

    What they do not state, either generation takes from the keys beside them, else from its defaults.
    """
    names = {"rope_theta": base, _TURNED: _TURNED}
    return {name: parameters[key] for key, name in names.items() if parameters.get(key) is not None}


def _scaling(parameters: Settings) -> dict[str, Any] | None:
    rest = {key: value for key, value in parameters.items() if key not in ("rope_theta", _TURNED)}
    return None if rest in ({}, _DEFAULT_ROPE) else rest


def _of_nomic(values: dict[str, Any], stated: Settings) -> dict[str, Any]:
    """NomicBERT's settings by the names of its own code, whatever names it states them by."""
    values = dict(values)
    if "rope_theta" in values:
        values.setdefault("rotary_emb_fraction", 1.0)  # transformers 5 turns whole heads
    if values.get("hidden_act") == "silu":
        values["hidden_act"] = "swiglu"
    for new, old in _GPT2_NAMES.items():
        value = values.pop(new, None)
        # Its own code goes by `n_positions`; beside that, the number of positions is the one that it was trained on.
        if value is not None and values.setdefault(old, value) != value and new != "max_position_embeddings":
            msg = f"{stated.place} states {old} = {values[old]!r} and {new} = {value!r}, which are the same setting"
            raise SourceError(f"{msg}: fetch the checkpoint again")
    if values.get("head_dim") is not None and values["head_dim"] * values["n_head"] == values["n_embd"]:
        del values["head_dim"]  # any other is refused, as a key that nothing reads
    return values


def _period(kinds: list[str], stated: Settings) -> int:
    """Distance of two layers of ModernBERT that attend to all tokens; the first layer does."""
    everywhere = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    period = everywhere[1] if len(everywhere) > 1 else max(1, len(kinds))
    expected = ["sliding_attention" if index % period else "full_attention" for index in range(len(kinds))]
    if len(kinds) != stated.of("num_hidden_layers", int, len(kinds)):
        msg = f"{stated.place} lists {len(kinds)} layer_types for {stated.get('num_hidden_layers')} layers"
        raise SourceError(f"{msg}: fetch the checkpoint again")
    if kinds != expected:
        msg = f"{stated.place} states layer_types = {kinds}: only a global layer every few layers is built"
        raise UnsupportedError(msg)
    return period
