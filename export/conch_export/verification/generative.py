"""Generative rerankers, run by transformers: causal language models, whose next token is the answer.

Where a language model is a part of a model of more than text, transformers has no class for it with a head of its own.
Its class of the language model gets one here; what the head's tensor is called, and whether it is that of the embedding
table, transformers decides all the same.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import transformers
from transformers.modeling_outputs import CausalLMOutput

from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.generations.installed import as_installed
from conch_export.families import family_of
from conch_export.verification.loading import loading, processor_of, see_both_ways

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conch_export.checkpoints.chat import Chat
    from conch_export.model.description import GenerativeReranker, Overrides
    from conch_export.verification.samples import Item


class TemplateReranker:
    """A generative reranker, run by transformers as its authors' model cards show: a causal language model.

    Its score is the logit of one token less that of another, after a text that holds the pair.

    Attributes:
        name: who computes.

    Raises:
        VerificationError: transformers cannot load it.
    """

    def __init__(self, description: GenerativeReranker, overrides: Overrides) -> None:
        checkpoint = Checkpoint.of(description.source)
        tokenizers: Any = transformers.AutoTokenizer
        self.name = f"transformers {transformers.__version__}"
        self._chat = checkpoint.chat if overrides.pair_template is None else None
        self._instruction = description.default_instruction
        self._template = description.pair_template.replace("{instruction}", self._instruction)
        with loading(description.name, "transformers"), as_installed(checkpoint) as installed:
            folder = Checkpoint(installed).transformer
            self._tokenizer = tokenizers.from_pretrained(folder)
            self._next_token = _next_token(folder, checkpoint)
        self._yes, self._no = self._tokenizer.convert_tokens_to_ids(list(description.score_tokens))

    def ids(self, item: Item) -> list[int]:
        """Tokens of the text that holds the pair."""
        if self._chat is not None:
            return self._conversation(self._chat, item)
        ids: list[int] = []
        for part in self._template.split("{split}"):
            before, found, rest = part.partition("{query}")
            text = before.replace("{document}", item.text) + (item.query if found else "")
            ids += self._tokenizer(text + rest.replace("{document}", item.text))["input_ids"]
        return ids

    def __call__(self, item: Item) -> tuple[list[int], dict[str, torch.Tensor]]:
        """Return the tokens of an item, and `scores` FP32 [1]."""
        ids = self.ids(item)
        logits = self._next_token(torch.tensor([ids]))
        return ids, {"scores": (logits[self._yes] - logits[self._no])[None]}

    def _conversation(self, chat: Chat, item: Item) -> list[int]:
        """Tokens of the pair in the messages that sentence-transformers makes of it, as transformers writes them."""
        instruction = [("system", self._instruction)] if self._instruction else []
        messages = chat.messages([*instruction, ("query", item.query), ("document", item.text)])
        prepared = processor_of(self._tokenizer) if chat.has_processor else self._tokenizer
        ids: list[int] = np.ravel(prepared.apply_chat_template(messages, tokenize=True, **chat.options)).tolist()
        return ids


def _next_token(folder: Path, checkpoint: Checkpoint) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function by which transformers computes the logits of the token after ids [1, tokens].

    Raises:
        ValueError: the checkpoint lacks a tensor, which transformers would draw at random.
    """
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "use_safetensors": True}
    models: Any = transformers.AutoModelForCausalLM
    family = family_of(checkpoint.config)
    if family is not None and family.key_mapping:
        options |= {"config": transformers.AutoConfig.from_pretrained(folder), "key_mapping": dict(family.key_mapping)}
        models = _with_head(transformers.MODEL_MAPPING[type(options["config"])])
    model, found = models.from_pretrained(folder, output_loading_info=True, **options)
    if found["missing_keys"]:
        raise ValueError(f"it has no tensor {min(found['missing_keys'])!r}")
    see_both_ways(model.eval())
    # The logits of all tokens would take more memory than the rest.
    last = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
    return lambda ids: model(input_ids=ids, **last).logits[0, -1]


def _with_head(kind: Any) -> Any:
    """A class of language models with a head, of transformers' class of those without."""
    base: Any = kind.__base__

    class WithHead(base):  # type: ignore[misc]
        _tied_weights_keys: ClassVar = ["lm_head.weight"]

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = kind(config)
            self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            self.post_init()

        def forward(self, input_ids: torch.Tensor) -> CausalLMOutput:
            hidden = self.model(input_ids=input_ids).last_hidden_state[:, -1:]
            return CausalLMOutput(logits=self.lm_head(hidden))

    return WithHead
