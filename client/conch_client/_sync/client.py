# Generated from _async/client.py by `make docs`; do not edit.
"""The client: every call with its arguments, results and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_contract import RERANKERS, ModelInfo, Task, Truncate

from conch_client._errors import Item
from conch_client._inputs import (
    Texts,
    check_classified,
    check_inputs,
    check_text,
    check_texts,
    is_heavy,
)
from conch_client._requests.classification import Classification, ClassificationJob, ClassificationQuestion
from conch_client._requests.options import TokenOptions, VectorOptions
from conch_client._requests.rerank import Ranking, RerankQuestion, rerank_job
from conch_client._requests.vectors import ChunksJob, ChunkVectors, EmbedJob, SparseJob, SparseVector, TokenVectorsJob
from conch_client._sync.models import Models

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Client(Models):
    """Vectors and rankings from Tritons that serve a conch repository.

        from conch_client import Client

        with Client("127.0.0.1:8001") as client:
            vectors = client.embed(["a text", "another"])  # float32 [2, dimension], length 1
            best = client.rerank("a question", ["some", "documents"], top_n=1)[0]
            print(vectors.shape, best.index, best.score)

    No checkpoint is needed here: models and their tokenizers are read from the server. Any number of threads may share
    a client; it connects with the first call.

    What was read from the server is read again after 10 s, when the server could not be reached, and when it refuses a
    request or does not know a model. A model that was replaced by another of the same name (another tokenizer, say) is
    therefore noticed at once where the server restarted under a running call, and within 10 s at the latest.

    Args:
        url: ``host:port`` of Triton's gRPC endpoint; several, in a list or divided by commas; ``dns:///host:port`` for
            every address of a host. Of several, each request goes to the one that will answer it first, and one that
            fails or hangs gets none.
        timeout_s: Seconds for a whole call, all its requests and retries included, unless the call states its own.
        max_in_flight: Most requests of one call that are under way at once (long lists are split).
        retries: How often a request is repeated, after growing waits, while the server cannot be reached.
        tls: True for encryption with the system's authorities, or a ``TLS`` that says which.
    """

    def embed(
        self,
        texts: Texts,
        *,
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        normalize: bool = True,
        expect_space: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> NDArray[np.float32]:
        """One vector for each text.

        Args:
            texts: Texts, or token-id sequences that are taken as they are (special tokens included).
            model: Name of an embedding model; None for the first by name; a ``ModelInfo`` for that very version.
            prompt: Text to put before each text; ``""`` for none, even where the model has a default.
            prompt_name: Name of one of the model's own prompts; without either its default applies.
            dimensions: Cut the vectors to this length, for models trained for that (Matryoshka).
            truncate: End at which texts longer than the model takes lose tokens, a start behind the prompt; ``"none"``
                refuses them.
            normalize: Vectors of length 1; False only for models that were exported without normalisation.
            expect_space: ``space_id`` of the model that made the vectors which these will be compared with; it is held
                against what the client knows of the server, which is at most 10 s old. ``~`` before it also takes the
                vectors of a bridge into that space (``ModelInfo.bridges_to``).
            timeout_s: Seconds for this call.
            request_id: Name of the requests in Triton's logs and traces.

        Returns:
            float32 [n, dimension], in the order of ``texts``.

        Raises:
            InvalidInputError: An input cannot be served; ``indices`` says which.
            SpaceError: The model's vectors are in another space.
            ConchError: Any other failure; see ``conch_client`` for the kinds.
        """
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        vectors = VectorOptions(dimensions, normalize, expect_space)
        return self._session.run(
            model,
            (Task.EMBEDDING,),
            lambda loaded: EmbedJob.prepare(loaded, inputs, tokens, vectors),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    def embed_chunks(
        self,
        chunks: Sequence[str],
        *,
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        normalize: bool = True,
        expect_space: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> ChunkVectors:
        """One vector for each chunk of a document that the model reads as a whole (late chunking).

        A vector is the mean over its chunk's tokens, which have seen all others (Günther et al. 2024). ``chunks`` are
        joined as they are: keep the spaces between them. The prompt comes before the first one. Nothing is cut: a
        document that is too long is refused, and so is a chunk without a token. ``model`` is the name of a model for
        late chunking, such as ``NAME-chunks``, None for the first. Else arguments and errors are those of ``embed``.
        Returns float32 [chunks, dimension], and the tokens of the document.
        """
        deadline = self._deadline(timeout_s)
        checked = check_texts(chunks, "chunks")
        tokens, vectors = TokenOptions(prompt, prompt_name), VectorOptions(dimensions, normalize, expect_space)
        return self._session.run(
            model,
            (Task.LATE_CHUNKING,),
            lambda loaded: ChunksJob.prepare(loaded, checked, tokens, vectors),
            deadline,
            heavy=is_heavy(checked),
            request_id=request_id,
        )

    def embed_tokens(
        self,
        texts: Texts,
        *,
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        normalize: bool = True,
        expect_space: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> list[NDArray[np.float32]]:
        """A vector for every token of each text, special tokens included.

        ``model`` is a multi-vector model's name, None for the first; ``normalize=False`` leaves lengths as they come.
        A model that ``skips_first`` gives none for the first token of a text, unless it is the only one.
        Else arguments and errors are those of ``embed``. Returns float32 [tokens, dimension] for each text.
        """
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        return self._session.run(
            model,
            (Task.MULTI_VECTOR,),
            lambda loaded: TokenVectorsJob.prepare(
                loaded, inputs, tokens, normalize=normalize, expect_space=expect_space
            ),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    def embed_sparse(
        self,
        texts: Texts,
        *,
        model: str | ModelInfo | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: Truncate = "end",
        expect_space: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> list[SparseVector]:
        """A weight for each token of the vocabulary, most of them 0.

        ``model`` is a sparse model's name, None for the first; else arguments and errors are those of ``embed``.
        """
        deadline = self._deadline(timeout_s)
        inputs = check_inputs(texts)
        tokens = TokenOptions(prompt, prompt_name, truncate)
        return self._session.run(
            model,
            (Task.SPARSE,),
            lambda loaded: SparseJob.prepare(loaded, inputs, tokens, expect_space=expect_space),
            deadline,
            heavy=inputs.heavy,
            request_id=request_id,
        )

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | ModelInfo | None = None,
        top_n: int | None = None,
        instruction: str | None = None,
        raw_scores: bool = False,
        truncate: Truncate = "end",
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Ranking:
        """Documents by how well they answer a query, best first.

        Args:
            query: The query; of a pair that is too long for a cross-encoder, the longer text is cut first.
            documents: Texts to rank.
            model: Name of a reranker, late-interaction or cross-encoder; None for the first by name.
            top_n: Return only the best ones; None for all.
            instruction: What to look for, for rerankers that read one; None for the model's default.
            raw_scores: Cross-encoders: the logit instead of its sigmoid. Late interaction always scores as it does.
            truncate: As in ``embed``.
            timeout_s: Seconds for this call.
            request_id: Name of the requests in Triton's logs and traces.

        Returns:
            A list of (index, score); equal scores keep the order of ``documents``.

        Raises:
            InvalidInputError: An input cannot be served; ``indices`` says which.
            ConchError: Any other failure; see ``conch_client`` for the kinds.
        """
        deadline = self._deadline(timeout_s)
        question = RerankQuestion(
            check_text(query, Item("query")),
            check_texts(documents, "documents"),
            top_n,
            raw_scores,
            truncate,
            instruction,
        )
        return self._session.run(
            model,
            RERANKERS,
            lambda loaded: rerank_job(loaded, question),
            deadline,
            heavy=is_heavy([question.query, *question.documents]),
            request_id=request_id,
        )

    def classify(
        self,
        inputs: Sequence[str | tuple[str, str]],
        *,
        model: str | ModelInfo | None = None,
        raw_scores: bool = False,
        truncate: Truncate = "end",
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Classification:
        """A score for each label of every input, float32 [n, labels], and the labels.

        ``inputs`` are texts, or pairs of texts for models that read two (a premise and a hypothesis, say); of a pair
        that is too long, the longer text is cut first. ``raw_scores`` are the logits instead of what the model's
        ``activation`` makes of them. ``model`` is a classifier's name, None for the first. Else arguments and errors
        are those of ``embed``.
        """
        deadline = self._deadline(timeout_s)
        question = ClassificationQuestion(check_classified(inputs), raw_scores, truncate)
        return self._session.run(
            model,
            (Task.CLASSIFICATION,),
            lambda loaded: ClassificationJob.prepare(loaded, question),
            deadline,
            heavy=question.heavy,
            request_id=request_id,
        )
