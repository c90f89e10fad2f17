"""What is looked up instead of computed: static embedding models, and queries of inference-free sparse ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import model2vec
import numpy as np
import pytest
from conch_contract import encoder_name, queries_name
from conch_export import ExportError, Options, Overrides, Pooling, Precision, UnsupportedError, export
from conch_export.model.description import StaticModel
from conch_export.onnx.engine import EncoderGraph, QueryGraph, Row
from conch_export.onnx.layout import row_lengths
from conch_export.triton.repository import graph_path
from conch_export.verification.rows import Rows
from conch_export.verification.samples import Item, Role
from safetensors.numpy import load_file, save_file
from sentence_transformers import SparseEncoder
from tokenizers import Tokenizer, models, pre_tokenizers

from tests import lookup_checkpoints
from tests.merging import padded, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = [
    "a cat sat on the mat",
    "x",
    "a 𓀀 cat",  # an unknown token among known ones
    "𓀀",  # an unknown token alone
    "the quick brown fox jumps over the lazy dog " * 100,  # too many tokens
    "sesquipedalian antidisestablishmentarianism " * 100,  # too many characters first
]


def exported(folder: Path, precision: str = "fp32", **overrides: Any) -> tuple[Path, Rows]:
    """The repository of a checkpoint's model, called m, and how its texts become rows."""
    repository = folder.with_name(f"{folder.name}-{precision}")
    chosen = Options(str(folder), repository, "m", precision=Precision(precision), overrides=Overrides(**overrides))
    return repository, Rows(export(chosen).description)


def vectors(repository: Path, rows: list[Row]) -> NDArray[np.float32]:
    return EncoderGraph(graph_path(repository, encoder_name("m")))(rows)


def cosines(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1))


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (lookup_checkpoints.static, {}),
        (lookup_checkpoints.static, {"normalize": False, "max_length": 20}),
        (lookup_checkpoints.quantized, {}),
    ],
    ids=["usual", "not normalised and short", "quantized vocabulary"],
)
def test_vectors_are_those_of_model2vec(tmp_path: Path, make: Callable[..., Path], config: dict[str, Any]) -> None:
    folder = make(tmp_path / "static", **config)
    repository, rows_of = exported(folder)
    expected = model2vec.StaticModel.from_pretrained(folder).encode(TEXTS, max_length=config.get("max_length", 512))
    rows = [rows_of(Item(Role.TEXT, text)) for text in TEXTS]
    np.testing.assert_allclose(vectors(repository, rows), expected, rtol=0, atol=1e-5)


def test_int8_keeps_the_direction_of_vectors(tmp_path: Path) -> None:
    folder = lookup_checkpoints.static(tmp_path / "static")
    repository, rows_of = exported(folder, "int8")
    known = [text for text in TEXTS if text != "𓀀"]
    found = vectors(repository, [rows_of(Item(Role.TEXT, text)) for text in known])
    assert cosines(found, model2vec.StaticModel.from_pretrained(folder).encode(known)).min() > 0.999
    size = graph_path(repository, encoder_name("m")).stat().st_size
    assert size < 0.3 * (folder / "model.safetensors").stat().st_size


def test_a_row_that_cannot_be_looked_up_is_nan_and_harms_no_other(tmp_path: Path) -> None:
    repository, rows_of = exported(lookup_checkpoints.static(tmp_path / "static"))
    good = rows_of(Item(Role.TEXT, TEXTS[0])).ids
    bad = [[5, 10**9], [7] * 600, [-1]]
    graph = session(graph_path(repository, encoder_name("m")))
    request = padded([good, *bad, [8], good])
    request.mask[4] = 0  # a row of pads
    feed = {"input_ids": request.ids.ravel(), "attention_mask": request.mask.ravel()}
    lengths = row_lengths([request.ids.shape[1]] * len(request.ids), "attention_mask")
    (found,) = graph.run(None, feed | lengths)
    assert np.isnan(found[1:5]).all()
    alone = vectors(repository, [Row(good, [0] * len(good))])[0]
    assert (found[[0, 5]] == alone).all()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"pooling": Pooling.CLS}, "another pooling"),
        ({"lexical": True}, "lexical weights"),
        ({"pair_template": "{query} {document}"}, "--pair-template is for rerankers"),
    ],
)
def test_what_needs_an_encoder_is_refused_by_name(tmp_path: Path, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(ExportError, match=named):
        exported(lookup_checkpoints.static(tmp_path / "static"), **asked)


@pytest.mark.parametrize("name", ["mapping", "weights"])
def test_a_tensor_of_another_table_is_named(tmp_path: Path, name: str) -> None:
    folder = lookup_checkpoints.quantized(tmp_path / "static")
    path = folder / "model.safetensors"
    stored = load_file(path)
    save_file({**stored, name: stored[name][:-1] if name == "weights" else stored[name] + 10**6}, path)
    with pytest.raises(ExportError, match=r"has a mapping or weights of another table .*: fetch the checkpoint again"):
        exported(folder)


def test_a_key_that_model2vec_may_add_is_named(tmp_path: Path) -> None:
    folder = lookup_checkpoints.static(tmp_path / "static")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "new_in_1": 2}))
    with pytest.raises(ExportError, match=r"states new_in_1 = 2, which is not known here \(known: .*max_length"):
        exported(folder)


def test_queries_are_looked_up_as_sentence_transformers_does(tmp_path: Path) -> None:
    folder = lookup_checkpoints.inference_free(tmp_path / "sparse")
    repository, rows_of = exported(folder, max_length=64)
    library = SparseEncoder(str(folder), device="cpu")
    library.max_seq_length = 64
    expected = library.encode_query(TEXTS[:4], convert_to_sparse_tensor=False).numpy()
    rows = [rows_of(Item(Role.QUERY, text)) for text in TEXTS[:4]]
    look_up = QueryGraph(graph_path(repository, queries_name("m")))
    together, alone = look_up(rows), [look_up([row]) for row in rows]
    found = np.zeros_like(expected)
    for index, (one, row) in enumerate(zip(alone, rows, strict=True)):
        assert len(one["indices"][0]) == len(set(row.ids))  # each token once, and nothing else
        found[index, one["indices"][0]] = one["weights"][0]
        count = len(one["indices"][0])
        assert (together["indices"][index, :count] == one["indices"][0]).all()
        assert (together["weights"][index, :count] == one["weights"][0]).all()
        assert not together["weights"][index, count:].any()
    np.testing.assert_array_equal(found, expected)


def test_queries_with_another_tokenizer_are_refused_by_name(tmp_path: Path) -> None:
    folder = lookup_checkpoints.inference_free(tmp_path / "sparse")
    path = folder / "query_0_SparseStaticEmbedding" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 9}))
    with pytest.raises(ExportError, match=r"tokenizer of queries \(query_0_SparseStaticEmbedding\)"):
        exported(folder)


@pytest.mark.parametrize(
    ("router", "place", "told"),
    [
        ({"types": {"own": "own.Module"}}, "", "a module that is in no route, 'own'"),
        (
            {"types": {"../own": "x.SparseStaticEmbedding"}, "structure": {"query": ["../own"]}},
            "",
            "a folder of the ch",
        ),
        ({"parameters": {"default_route": "passage"}}, "", "default_route = 'passage'"),
        ({}, "0_Router", "a Router in a folder of its own"),
    ],
    ids=["a class without a route", "a folder elsewhere", "an unknown route", "another folder"],
)
def test_a_router_reads_and_imports_nothing_but_what_was_checked(
    tmp_path: Path, router: dict[str, Any], place: str, told: str
) -> None:
    folder = lookup_checkpoints.inference_free(tmp_path / "sparse")
    for name, changes in (("router_config.json", router), ("modules.json", {"path": place})):
        stated = json.loads((folder / name).read_text())
        inner = stated[0] if isinstance(stated, list) else stated
        inner |= {key: {**inner[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
        if "structure" in changes:
            del stated["types"]["query_0_SparseStaticEmbedding"]
        (folder / name).write_text(json.dumps(stated))
    with pytest.raises(ExportError, match=told):
        exported(folder)


def test_what_the_operator_states_of_a_static_model_counts(tmp_path: Path) -> None:
    folder = lookup_checkpoints.static(tmp_path / "static")
    options = Options(str(folder), tmp_path / "models", "m", precision=Precision.FP32)
    cut = Overrides(matryoshka=(16,), matryoshka_centred=True)
    description = export(replace(options, overrides=cut)).description
    assert isinstance(description, StaticModel)
    assert (description.matryoshka, description.matryoshka_centred) == ((48, 16), True)
    for length in (0, -5):
        with pytest.raises(UnsupportedError, match=f"--max-length {length} leaves no room for text"):
            export(replace(options, overrides=Overrides(max_length=length)))


def test_unknown_tokens_of_a_unigram_vocabulary_count_as_in_model2vec(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in "abcdefghij")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    table = np.random.default_rng(0).standard_normal((len(pieces), 48)).astype(np.float32)
    static = model2vec.StaticModel(table, tokenizer, {"model_type": "model2vec"}, normalize=True)
    static.save_pretrained(tmp_path / "static")
    repository, rows_of = exported(tmp_path / "static")
    texts = ["a bad zzz cab", "zzz", "a cab"]
    found = vectors(repository, [rows_of(Item(Role.TEXT, text)) for text in texts])
    np.testing.assert_allclose(found, static.encode(texts), rtol=0, atol=1e-5)
