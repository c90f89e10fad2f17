"""Plans the memory of a page that computes a model with conch-web.

The graphs are those of the server, so activations and scores are too. The constants are fitted to measurements in
Chromium (`benchmarks/results/web-memory.json`), and a test keeps the sum within a quarter of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from conch_contract import WEB_TASKS

from conch_export.build import planned_encoder
from conch_export.checkpoints.heads import read_head
from conch_export.errors import UnsupportedError
from conch_export.model.description import Precision
from conch_export.model.public_models import public_models
from conch_export.options import described_for_plan
from conch_export.planning.gateway import held_bytes
from conch_export.planning.memory import Footprint, HeadFootprint, longest
from conch_export.progress import silent

if TYPE_CHECKING:
    from conch_export.options import Options
    from conch_export.progress import Progress

WEBASSEMBLY_BYTES = 2**32
"""Most memory of a WebAssembly module with 32-bit addresses."""
_MB = 1e6
_FLOAT_BYTES = 4
_PAGE_BYTES = 135_000_000
_CODE_BYTES = 145_000_000
_HEAP_BYTES = 10_000_000
"""Memory of the empty page, of the modules, and of WebAssembly before a model is loaded."""
_TOKEN_BYTES, _MERGE_BYTES, _NODE_BYTES = 120, 195, 160
"""JavaScript objects of a token, of a merge, and of a node in the trie of a unigram model."""
_ACTIVATIONS, _SCORES = 0.77, 0.5
"""Factors on the server's memory for these, whose arena holds more than is in use."""
_OUTPUT_COPIES = 2
"""Copies of token vectors: the output of the encoder, and the input of the head."""
_RUN_TOKENS = 1024
"""Tokens up to which conch-web computes short texts in one run."""


@dataclass(frozen=True)
class BrowserBudget:
    """Peak memory of a page with one model, in bytes.

    Attributes:
        page: process of the browser for an empty page.
        module: onnxruntime-web and conch-web without a model.
        tokenizer: JavaScript objects of the tokenizer.
        files: fetched files, until the garbage collector frees them.
        weights: weights of the graphs; fp32 matrices count twice, because they are stored and packed.
        activations: activations of a run.
        scores: attention scores, in tiles.
        outputs: token vectors between encoder and head.
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
        """Bytes of WebAssembly's memory."""
        return _HEAP_BYTES + self.weights + self.activations + self.scores + self.outputs

    @property
    def total(self) -> int:
        """Bytes of the page."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class BrowserPlan:
    """The planned memory of a page for a model.

    Attributes:
        precision: number format of the matrix products.
        encoder: footprint of the encoder's graph.
        heads: footprints of the heads' graphs.
        tokenizer: bytes of the tokenizer in the page.
        length: most tokens of a text.
    """

    precision: Precision
    encoder: Footprint
    heads: tuple[HeadFootprint, ...]
    tokenizer: int
    length: int

    def budget(self, length: int) -> BrowserBudget:
        """Return the memory for texts of up to so many tokens."""
        tokens = max(length, _RUN_TOKENS)  # shorter texts fill a run up
        encoder, heads = self.encoder.budget(length, tokens), [head.budget(tokens) for head in self.heads]
        # Graphs run one after another and reuse the same memory.
        activations = int(_ACTIVATIONS * max(encoder.activations, *(head.activations for head in heads), 0))
        outputs = _OUTPUT_COPIES * tokens * self.encoder.hidden * _FLOAT_BYTES
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
        """Return whether texts of so many tokens fit into so much memory, and into WebAssembly's."""
        budget = self.budget(length)
        return budget.total <= memory and budget.heap <= WEBASSEMBLY_BYTES

    def longest(self, memory: int) -> int:
        """Return the most tokens with which the page stays within `memory` bytes; 0 if no length does."""
        return longest(self.length, lambda length: self.fits(length, memory))

    def as_dict(self, length: int) -> dict[str, Any]:
        """Return plain values for JSON, for texts of so many tokens; MB are 10^6 bytes."""
        budget = self.budget(length)
        return {
            "tokens": length,
            "page_mb": {part: count / _MB for part, count in asdict(budget).items()},
            "webassembly_mb": budget.heap / _MB,
            "total_mb": budget.total / _MB,
        }


def browser_plan(options: Options, progress: Progress = silent) -> BrowserPlan:
    """Plan a page's memory for a checkpoint, without reading its weights.

    Args:
        options: the checkpoint, and how it would be exported.
        progress: receives the progress of fetching the checkpoint.

    Raises:
        ExportError: it was not found, cannot be exported, has no known family, or cannot run in browsers.
    """
    description, checkpoint, _ = described_for_plan(options, progress)
    models = [model for model in public_models(description) if model.task in WEB_TASKS]
    if not models:
        msg = f"{description.name} is for {description.task}; in a browser conch-web answers {', '.join(WEB_TASKS)}"
        raise UnsupportedError(msg)
    encoder = planned_encoder(description, checkpoint)
    heads = [read_head(description, model, checkpoint) for model in models if model.head is not None]
    return BrowserPlan(
        options.precision,
        Footprint.of(encoder, options.precision),
        tuple(HeadFootprint.of(head, description.hidden, options.precision) for head in heads),
        held_bytes(checkpoint.tokenizer, _TOKEN_BYTES, _MERGE_BYTES, _NODE_BYTES),
        description.max_length,
    )
