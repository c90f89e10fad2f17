"""Memory of a page that computes a model with conch-web. Hides what onnxruntime-web and the browser do with it.

Graphs are those of the server, so activations and scores are, too. The constants are fitted to measurements in
Chromium (`benchmarks/results/web-memory.json`), and a test keeps the sum within a quarter of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from conch_contract import WEB_TASKS

from conch_export.checkpoints.heads import read_head
from conch_export.errors import UnsupportedError
from conch_export.model.description import Precision
from conch_export.model.public_models import public_models
from conch_export.options import described_for_plan
from conch_export.planning.encoders import encoder_of
from conch_export.planning.gateway import beginnings, tokens_of
from conch_export.planning.memory import Footprint, HeadFootprint
from conch_export.progress import silent

if TYPE_CHECKING:
    from conch_export.options import Options
    from conch_export.progress import Progress

WEBASSEMBLY_BYTES = 2**32
"""What a module with 32-bit addresses can have."""
_MB = 1e6
_FLOAT_BYTES = 4
_PAGE_BYTES = 135_000_000
_CODE_BYTES = 165_000_000
_HEAP_BYTES = 10_000_000
"""Of WebAssembly, before there is a model."""
_TOKEN_BYTES, _MERGE_BYTES, _NODE_BYTES = 120, 195, 160
"""Of a token, of a pair that is merged, and of a node in the tree of a unigram model, as JavaScript's objects."""
_ACTIVATIONS, _SCORES = 0.77, 0.5
"""Of what they take on the server, where an arena keeps more than is in use."""
_OUTPUT_COPIES = 2
"""Of token vectors: as the encoder gives them, and as the head takes them."""
_RUN_TOKENS = 1024
"""conch-web computes shorter texts together, up to so many tokens."""


@dataclass(frozen=True)
class BrowserBudget:
    """Bytes of a page with one model, at its peak.

    Attributes:
        page: the browser's process for an empty page.
        module: onnxruntime-web and conch-web, before there is a model.
        tokenizer: of the model, as JavaScript's objects.
        files: as they were fetched, until JavaScript's garbage is collected.
        weights: of the graphs; matrices in fp32 as they are stored, and in the order that the processor wants.
        activations: of a run.
        scores: of attention, in tiles.
        outputs: token vectors, between the graphs.
    """

    page: int
    module: int
    tokenizer: int
    files: int
    weights: int
    activations: int
    scores: int
    outputs: int

    @property
    def heap(self) -> int:
        """Of WebAssembly."""
        return _HEAP_BYTES + self.weights + self.activations + self.scores + self.outputs

    @property
    def total(self) -> int:
        """Of the page."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class BrowserPlan:
    """What a page takes for a model.

    Attributes:
        precision: of matrix products.
        encoder: sizes of the encoder's graph.
        heads: of those behind it.
        tokenizer: bytes of it in the page.
        length: most tokens of a text.
    """

    precision: Precision
    encoder: Footprint
    heads: tuple[HeadFootprint, ...]
    tokenizer: int
    length: int

    def budget(self, length: int) -> BrowserBudget:
        """With texts of so many tokens."""
        rows = max(1, _RUN_TOKENS // length)
        encoder, heads = self.encoder.budget(length, rows), [head.budget(length, rows) for head in self.heads]
        # One graph runs at a time, and what it took is there for the next.
        activations = int(_ACTIVATIONS * max(encoder.activations, *(head.activations for head in heads), 0))
        outputs = _OUTPUT_COPIES * rows * length * self.encoder.hidden * _FLOAT_BYTES
        return BrowserBudget(
            page=_PAGE_BYTES,
            module=_CODE_BYTES + _HEAP_BYTES,
            tokenizer=self.tokenizer,
            files=self._files,
            weights=self._files + (self.encoder.matrices if self.precision is Precision.FP32 else 0),
            activations=activations,
            scores=int(_SCORES * encoder.scores),
            outputs=outputs,
        )

    @property
    def _files(self) -> int:
        return self.encoder.graph + sum(head.weights for head in self.heads)

    def fits(self, length: int, memory: int) -> bool:
        """Whether texts of so many tokens do with so much memory, and with WebAssembly's."""
        budget = self.budget(length)
        return budget.total <= memory and budget.heap <= WEBASSEMBLY_BYTES

    def longest(self, memory: int) -> int:
        """Most tokens with which the page stays within so many bytes; 0 if nothing does."""
        fitting, beyond = 0, self.length + 1
        while beyond - fitting > 1:
            length = (fitting + beyond) // 2
            fitting, beyond = (length, beyond) if self.fits(length, memory) else (fitting, length)
        return fitting

    def as_dict(self, length: int) -> dict[str, Any]:
        """Plain values for texts of so many tokens, for JSON; MB are 10^6 bytes."""
        budget = self.budget(length)
        return {
            "tokens": length,
            "page_mb": {part: count / _MB for part, count in asdict(budget).items()},
            "webassembly_mb": budget.heap / _MB,
            "total_mb": budget.total / _MB,
        }


def browser_plan(options: Options, progress: Progress = silent) -> BrowserPlan:
    """Plan a page's memory for a checkpoint, of which no matrix is read.

    Args:
        options: which one, and how it would be exported.
        progress: told while the checkpoint is fetched, where it is not here.

    Raises:
        ExportError: it was not found, cannot be exported, has no family here, or is none for browsers.
    """
    description, checkpoint, _ = described_for_plan(options, progress)
    models = [model for model in public_models(description) if model.task in WEB_TASKS]
    if not models:
        msg = f"{description.name} is for {description.task}; in a browser conch-web answers {', '.join(WEB_TASKS)}"
        raise UnsupportedError(msg)
    encoder = encoder_of(description, checkpoint)
    heads = [read_head(description, model, checkpoint) for model in models if model.head is not None]
    return BrowserPlan(
        options.precision,
        Footprint.of(encoder, options.precision),
        tuple(HeadFootprint.of(head, description.hidden, options.precision) for head in heads),
        tokenizer_bytes(checkpoint.tokenizer),
        description.max_length,
    )


def tokenizer_bytes(tokenizer: bytes) -> int:
    """Bytes of this tokenizer.json as JavaScript's objects."""
    model = json.loads(tokenizer)["model"]
    tokens = tokens_of(model)
    held = _TOKEN_BYTES * len(tokens) + _MERGE_BYTES * len(model.get("merges") or ())
    return held + (_NODE_BYTES * beginnings(tokens) if model.get("type") == "Unigram" else 0)
