"""What follows the encoder computes what its authors' libraries compute, for every kind of answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_export import Options, Overrides, Pooling, Precision, Task, UnsupportedError, export
from conch_export.onnx.engine import EncoderGraph, HeadGraph, Row
from conch_export.options import public_name
from conch_export.triton.published import published
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests import head_checkpoints
from tests.exports import ONE_CORE, export_once
from tests.head_checkpoints import FEWER_WORDS, WORDS
from tests.kind_checkpoints import outputs
from tests.late_interaction import bge_m3_score, bge_m3_vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports

    Floats = NDArray[np.float32]

random = np.random.default_rng(0)
ROWS = [Row(random.integers(999, FEWER_WORDS, length).tolist(), [0] * length) for length in (3, 120, 17, 1, 64, 65, 2)]


@dataclass(frozen=True)
class Served:
    """An exported model in process."""

    repository: Path
    name: str

    def __call__(self, head: str) -> dict[str, NDArray[Any]]:
        """What the Triton model `head` gives for all rows in one run."""
        tokens = EncoderGraph(self.repository / f"{self.name}.encoder" / "1" / "model.onnx")(ROWS)
        return HeadGraph(self.repository / head / "1" / "model.onnx")(ROWS, tokens)


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Served]:
    """Exports a checkpoint, which verifies every public model of it; what was exported before is as good."""

    def serve(checkpoint: Path, precision: str = "fp32", **options: Any) -> Served:
        overrides = Overrides(**options.pop("overrides", {}))
        repository = tmp_path / f"repository-{precision}"
        options = {"precision": Precision(precision), "plan": ONE_CORE, "overrides": overrides, **options}
        chosen = Options(str(checkpoint), repository, **options)
        export_once(chosen)
        return Served(repository, public_name(chosen))

    return serve


def dense(answer: dict[str, NDArray[Any]], size: int) -> Floats:
    """[rows, size] of what sparse models give."""
    weights = np.zeros((len(answer["indices"]), size), np.float32)
    np.put_along_axis(weights, answer["indices"].astype(np.int64), answer["weights"], axis=1)
    return weights


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_prompts_are_left_out_of_means_whatever_else_is_in_the_run(
    serve: Callable[..., Served], tmp_path: Path, precision: str
) -> None:
    served = serve(head_checkpoints.instructor(tmp_path / "instructor"), precision)  # which verifies the answers
    encode = EncoderGraph(served.repository / "instructor.encoder" / "1" / "model.onnx")
    head = HeadGraph(served.repository / "instructor.pooling" / "1" / "model.onnx")
    rows = [replace(row, prompt=min(5, len(row.ids))) for row in ROWS]
    together = head(rows, encode(rows))["embedding"]
    alone = [head([row], encode([row]))["embedding"][0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    # Of a row that is a prompt and nothing else, the last token is pooled: nothing else would be a number.
    last = [replace(row, prompt=len(row.ids) - 1) for row in rows]
    np.testing.assert_array_equal(together[3], head(last, encode(last))["embedding"][3])
    assert np.isfinite(together).all()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert", "modernbert"])
def test_splade_gives_the_largest_logarithm_of_every_word(
    serve: Callable[..., Served], tmp_path: Path, kind: str
) -> None:
    checkpoint = head_checkpoints.splade(tmp_path / "splade", kind)
    answer = serve(checkpoint)("splade.sparse")
    logits = [outputs(checkpoint, "ForMaskedLM", row.ids).logits[0] for row in ROWS]
    expected = torch.stack([torch.log1p(torch.relu(each)).amax(0) for each in logits]).numpy()
    np.testing.assert_allclose(dense(answer, expected.shape[1]), expected, rtol=0, atol=1e-5)
    assert answer["weights"].shape[1] == (expected > 0).sum(axis=1).max()
    assert answer["indices"].dtype == np.int32


def test_splade_of_gte_gives_what_its_authors_head_gives(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.splade(tmp_path / "splade", "gte")
    served = serve(checkpoint)
    tokens = torch.from_numpy(EncoderGraph(served.repository / "splade.encoder" / "1" / "model.onnx")(ROWS))
    at = load_file(checkpoint / "model.safetensors").__getitem__
    bent = torch.nn.functional.gelu(tokens @ at("lm_head.dense.weight").T + at("lm_head.dense.bias"))
    norm = at("lm_head.norm.weight"), at("lm_head.norm.bias"), 1e-3
    normed = torch.nn.functional.layer_norm(bent, bent.shape[-1:], *norm)
    logits = normed @ at("new.embeddings.word_embeddings.weight").T + at("lm_head.decoder.bias")
    rows = torch.split(torch.log1p(torch.relu(logits)), [len(row.ids) for row in ROWS])
    expected = torch.stack([row.amax(0) for row in rows]).numpy()
    np.testing.assert_allclose(dense(served("splade.sparse"), expected.shape[1]), expected, rtol=0, atol=1e-5)


def test_a_masked_head_of_other_layers_is_refused_by_their_names(tmp_path: Path) -> None:
    folder = head_checkpoints.splade(tmp_path / "m")
    path, norm = folder / "model.safetensors", "cls.predictions.transform.LayerNorm"
    renamed = {name.replace(norm, norm.replace("LayerNorm", "layer_norm")): at for name, at in load_file(path).items()}
    save_file(renamed, path, {"format": "pt"})
    with pytest.raises(UnsupportedError, match=rf"has cls.predictions.transform.dense, and no norm {norm}\)"):
        export(Options(str(folder), tmp_path / "models", precision=Precision.FP32))


def test_splade_with_two_logarithms(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.splade(tmp_path / "splade", activation_function="log1p_relu")
    logits = [outputs(checkpoint, "ForMaskedLM", row.ids).logits[0] for row in ROWS]
    expected = torch.stack([torch.log1p(torch.log1p(torch.relu(each))).amax(0) for each in logits]).numpy()
    np.testing.assert_allclose(dense(serve(checkpoint)("splade.sparse"), FEWER_WORDS), expected, rtol=0, atol=1e-5)


def test_int8_keeps_the_direction_of_sparse_vectors(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.splade(tmp_path / "splade", words=WORDS)
    exact, rounded = (dense(serve(checkpoint, precision)("splade.sparse"), WORDS) for precision in ("fp32", "int8"))
    cosines = (exact * rounded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.99


DECODERS = {
    "bert": "cls.predictions.decoder",
    "xlm-roberta": "lm_head.decoder",
    "mpnet": "lm_head.decoder",
    "distilbert": "vocab_projector",
    "modernbert": "decoder",
}
"""The last layer of a masked language model, by kind."""
TABLES = ("word_embeddings.weight", "tok_embeddings.weight")


def with_tensor(folder: Path, name: str, like: str | tuple[str, ...], *, other: bool = True, **config: Any) -> Path:
    """The checkpoint with a further tensor, a copy of the one whose name ends so, or its rows in reverse."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    copy = next(tensor for stored, tensor in tensors.items() if stored.endswith(like)).clone()
    save_file({**tensors, name: copy.flip(0).contiguous() if other else copy}, path, {"format": "pt"})
    stated = json.loads((folder / "config.json").read_text())
    assert "tie_word_embeddings" not in stated
    (folder / "config.json").write_text(json.dumps(stated | config))
    return folder


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("stated", [{}, {"tie_word_embeddings": True}], ids=["not stated", "tied"])
def test_a_decoder_of_its_own_beside_the_table_that_it_should_be_is_refused(
    tmp_path: Path, kind: str, stated: dict[str, bool]
) -> None:
    name = f"{DECODERS[kind]}.weight"
    folder = with_tensor(head_checkpoints.splade(tmp_path / "m", kind), name, TABLES, **stated)
    with pytest.raises(UnsupportedError, match=f"tie_word_embeddings = false, but the tensor '{name}' is not '"):
        export(Options(str(folder), tmp_path / "models", precision=Precision.FP32))
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_that_is_not_tied_is_served(serve: Callable[..., Served], tmp_path: Path, kind: str) -> None:
    folder = head_checkpoints.splade(tmp_path / "own", kind)
    serve(with_tensor(folder, f"{DECODERS[kind]}.weight", TABLES, tie_word_embeddings=False))  # which verifies answers


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "mpnet"])
def test_a_bias_that_is_stored_twice_is_one(serve: Callable[..., Served], tmp_path: Path, kind: str) -> None:
    name, outer = f"{DECODERS[kind]}.bias", f"{DECODERS[kind].rpartition('.')[0]}.bias"
    serve(with_tensor(head_checkpoints.splade(tmp_path / "same", kind), name, outer, other=False))
    apart = with_tensor(head_checkpoints.splade(tmp_path / "apart", kind), name, outer)
    with pytest.raises(UnsupportedError, match=f"a decoder has one bias, but the tensor '{name}' is not '{outer}'"):
        serve(apart)


def test_the_table_of_t5_that_is_stored_twice_is_one(serve: Callable[..., Served], tmp_path: Path) -> None:
    name = "encoder.embed_tokens.weight"
    serve(with_tensor(head_checkpoints.instructor(tmp_path / "same"), name, "shared.weight", other=False))
    apart = with_tensor(head_checkpoints.instructor(tmp_path / "apart"), name, "shared.weight")
    with pytest.raises(UnsupportedError, match=f"one embedding table, but the tensor '{name}' is not 'shared.weight'"):
        serve(apart)


POOLINGS = ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]


@pytest.mark.parametrize(("kind", "pooling"), [*(("bert", each) for each in POOLINGS), ("gemma3_text", "mean")])
def test_pooling_and_dense_layers_are_those_of_sentence_transformers(
    serve: Callable[..., Served], tmp_path: Path, kind: str, pooling: str
) -> None:
    layers = ("torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity")
    checkpoint = head_checkpoints.with_dense(tmp_path / "dense", *layers, kind=kind, pooling=pooling)
    model = SentenceTransformer(str(checkpoint), device="cpu")
    with torch.inference_mode():
        expected = [
            model({"input_ids": torch.tensor([row.ids]), "attention_mask": torch.tensor([[1] * len(row.ids)])})
            for row in ROWS
        ]
    vectors = serve(checkpoint)("dense.pooling")["embedding"]
    assert vectors.shape == (len(ROWS), 16)
    np.testing.assert_allclose(
        vectors, np.concatenate([each["sentence_embedding"] for each in expected]), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert", "qwen3"])
def test_scores_of_cross_encoders_are_those_of_transformers(
    serve: Callable[..., Served], tmp_path: Path, kind: str
) -> None:
    name = f"{kind}-pairs"  # as in `kind_checkpoints`, with which the exports are shared
    checkpoint = head_checkpoints.make(tmp_path / name, kind, "ForSequenceClassification", num_labels=1)
    expected = [outputs(checkpoint, "ForSequenceClassification", row.ids).logits.numpy() for row in ROWS]
    scores = serve(checkpoint)(f"{name}.classifier")["score"]
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=0, atol=1e-5)


def test_a_reranker_that_answers_in_words_scores_by_their_logits(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "words", "qwen3", "ForCausalLM")
    yes, no = map(head_checkpoints.tokenizer_of(checkpoint).token_to_id, ("yes", "no"))
    logits = [outputs(checkpoint, "ForCausalLM", row.ids).logits[0, -1] for row in ROWS]
    overrides = {"score_tokens": ("yes", "no"), "pair_template": "{query} [SEP] {document} [SEP]"}
    scores = serve(checkpoint, overrides=overrides)("words.classifier")["score"][:, 0]
    np.testing.assert_allclose(scores, [float(each[yes] - each[no]) for each in logits], rtol=0, atol=1e-5)


def test_token_vectors_of_a_dense_model_are_its_last_hidden_states(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "plain", "bert", "Model")
    stated = {"pooling": Pooling.MEAN, "normalize": True}
    served = serve(checkpoint, late_interaction=True, overrides=stated)
    assert not (served.repository / "plain-tokens" / "1" / "model.onnx").exists()
    tokens = EncoderGraph(served.repository / "plain.encoder" / "1" / "model.onnx")(ROWS)
    expected = [outputs(checkpoint, "", row.ids).last_hidden_state[0].numpy() for row in ROWS]
    np.testing.assert_allclose(tokens, np.concatenate(expected), rtol=0, atol=1e-5)


def test_parts_of_a_rerankers_template_are_tokenised_apart_where_it_says_so(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "words", "qwen3", "ForCausalLM")
    stated = {"score_tokens": ("yes", "no"), "pair_template": "quest{split}ion: {query}{split}s, {document} fits"}
    with pytest.raises(UnsupportedError, match=r"has \{split\} in it, .* a tokenizer that adds special tokens"):
        serve(checkpoint, overrides=stated)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text()) | {"post_processor": None}
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    # The export compares tokens and scores with those of parts that transformers tokenises one after the other.
    served = serve(checkpoint, overrides=stated)
    row = Rows(published(served.repository, served.name)[0])(Item(Role.PAIR, "a cat", "is it"))
    found = [Tokenizer.from_str(json.dumps(tokenizer)).id_to_token(number) for number in row.ids]
    assert found == ["quest", "ion", ":", "is", "it", "s", ",", "a", "cat", "fits"]


def test_words_of_bge_m3_weigh_what_their_heaviest_token_does(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.bge_m3(tmp_path / "m3")
    layer = head_checkpoints.layer_of(checkpoint / "sparse_linear.safetensors")
    expected = np.zeros((len(ROWS), WORDS), np.float32)
    for weights, row in zip(expected, ROWS, strict=True):
        with torch.inference_mode():
            numbers = torch.relu(layer(outputs(checkpoint, "", row.ids).last_hidden_state[0]))[:, 0].tolist()
        for word, number in zip(row.ids, numbers, strict=True):
            weights[word] = max(weights[word], number)
    np.testing.assert_allclose(dense(serve(checkpoint)("m3-sparse.sparse"), WORDS), expected, rtol=0, atol=1e-5)


def test_words_of_gte_weigh_what_its_classifier_of_tokens_says(exports: Exports, checkpoints: Checkpoints) -> None:
    published = exports("gte_multilingual")
    weights = load_file(checkpoints.gte_multilingual() / "model.safetensors")
    tokens = EncoderGraph(published.repository / f"{published.name}.encoder" / "1" / "model.onnx")(ROWS)
    numbers = torch.relu(torch.from_numpy(tokens) @ weights["classifier.weight"][0] + weights["classifier.bias"])
    expected, ends = np.zeros((len(ROWS), WORDS), np.float32), np.cumsum([len(row.ids) for row in ROWS])
    for words, row, mine in zip(expected, ROWS, np.split(numbers.numpy(), ends[:-1]), strict=True):
        np.maximum.at(words, row.ids, mine)
    answer = Served(published.repository, published.name)(f"{published.name}-sparse.sparse")
    np.testing.assert_allclose(dense(answer, WORDS), expected, rtol=0, atol=1e-5)


def test_token_vectors_of_bge_m3_are_compared_as_its_authors_do(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.bge_m3(tmp_path / "m3")
    served = serve(checkpoint, late_interaction=True)
    vectors = [bge_m3_vectors(checkpoint, row.ids) for row in ROWS]
    ends = np.cumsum([len(row.ids) for row in ROWS])[:-1]
    for found, wanted in zip(np.split(served("m3-tokens.projection")["vectors"], ends), vectors, strict=True):
        np.testing.assert_allclose(found[1:], wanted, rtol=0, atol=1e-5)
    scores = served("m3-maxsim.maxsim")["score"][:, 0]
    longer = [number for number, row in enumerate(ROWS) if len(row.ids) > 1]
    expected = [bge_m3_score(vectors[0], vectors[number]) for number in longer]
    np.testing.assert_allclose(scores[longer], expected, rtol=0, atol=1e-5)
    assert np.isfinite(scores).all(), "a row of one token keeps it"


def test_a_pickled_layer_is_refused_where_it_is_needed(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.bge_m3(tmp_path / "m3")
    (checkpoint / "colbert_linear.safetensors").rename(checkpoint / "colbert_linear.pt")
    with pytest.raises(UnsupportedError, match=r"colbert_linear.pt is a pickle.*save_file"):
        serve(checkpoint, late_interaction=True)
    assert serve(checkpoint)("m3.pooling")["embedding"].shape == (len(ROWS), 48)


def test_tokens_that_its_authors_leave_out_weigh_nothing_and_other_special_ones_do(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(checkpoint := head_checkpoints.bge_m3(tmp_path / "m3"))
    # [CLS], a word, [MASK], [UNK], [SEP] and [PAD], all with the same vector, which weighs something.
    row = Row([101, 2003, 103, 100, 102, 0], [0] * 6)
    direction = head_checkpoints.layer_of(checkpoint / "sparse_linear.safetensors").weight.detach().numpy()
    vectors = np.repeat(100 * direction, len(row.ids), axis=0)
    answer = HeadGraph(served.repository / "m3-sparse.sparse" / "1" / "model.onnx")([row], vectors)
    assert set(answer["indices"][answer["weights"] > 0].tolist()) == {2003, 103}


def test_task_can_be_said_where_the_checkpoint_does_not(serve: Callable[..., Served], tmp_path: Path) -> None:
    checkpoint = head_checkpoints.make(tmp_path / "silent", "bert", "ForMaskedLM", FEWER_WORDS)
    logits = outputs(checkpoint, "ForMaskedLM", ROWS[1].ids).logits[0]
    answer = serve(checkpoint, overrides={"task": Task.SPARSE})("silent.sparse")
    np.testing.assert_allclose(
        dense(answer, FEWER_WORDS)[1], torch.log1p(torch.relu(logits)).amax(0).numpy(), rtol=0, atol=1e-5
    )


def test_augmentation_that_could_attend_to_nothing_is_refused(serve: Callable[..., Served], tmp_path: Path) -> None:
    # A window of 16 tokens on each side; a first token and the marker are the least that a query has.
    served = serve(head_checkpoints.pylate(tmp_path / "within", "modernbert", query_length=18))
    query = Row([101, 5, *[103] * 16], [0] * 18, masked=16)
    assert np.isfinite(EncoderGraph(served.repository / "within.encoder" / "1" / "model.onnx")([query])).all()
    with pytest.raises(UnsupportedError, match=r"filled up to 19 tokens.*states at most 18 \(query_length in"):
        serve(head_checkpoints.pylate(tmp_path / "beyond", "modernbert", query_length=19))
    seen = {"query_length": 19, "attend_to_expansion_tokens": True}
    serve(head_checkpoints.pylate(tmp_path / "attended", "modernbert", **seen))


def test_augmentation_of_newer_sentence_transformers_is_shortened_where_it_states_it(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    folder = head_checkpoints.pylate(tmp_path / "newer", "modernbert")
    kinds = (("", "Transformer"), ("1_Dense", "Dense"), ("2_Mask", "MultiVectorMask"), ("3_Normalize", "Normalize"))
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    stated = {"model_type": "MultiVectorEncoder", "__version__": {}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))

    def filled_to(length: int) -> dict[str, Any]:
        return {"document_length": 40, "query_expansion": {"strategy": "fixed", "attend": False, "length": length}}

    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps(filled_to(18)))
    with pytest.raises(
        UnsupportedError, match=r"at most 17 .*length in query_expansion of .* sentence_bert_config.json"
    ):
        serve(folder)
    settings.write_text(json.dumps(filled_to(17)))
    serve(folder)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_heads_of_modernbert_are_read_by_the_keys_that_its_authors_read(tmp_path: Path, head: str) -> None:
    folder = tmp_path / "m"
    if head == "ForMaskedLM":
        head_checkpoints.splade(folder, "modernbert")
    else:
        head_checkpoints.make(folder, "modernbert", head, num_labels=1)
    stated = json.loads((folder / "config.json").read_text())
    # The encoder's activation is another, and nothing reads the key of other architectures for the norms' epsilon.
    stated |= {"classifier_activation": "silu", "hidden_activation": "gelu", "norm_eps": 1e-5, "layer_norm_eps": 0.5}
    (folder / "config.json").write_text(json.dumps(stated))
    exported = export(Options(str(folder), tmp_path / "models", precision=Precision.FP32, plan=ONE_CORE))
    assert exported.verification["m"].max_difference < 1e-4
