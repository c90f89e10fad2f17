"""The tokenizer that is served gives the tokens of sentence-transformers, whatever the checkpoint's settings say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Options, Precision, UnsupportedError, export
from conch_export.checkpoints.checkpoint import Checkpoint
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests.checkpoints import put
from tests.encoders import described

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints

TEXTS = [
    "A Cat sat on THE mat.",
    "Ünïcode STRASSE, 中文 and [unused0] or [unused5] in it",
    "[MASK] stands for a word; don't cut it",
    " ".join(["alpha beta gamma"] * 60),
]
BERT = {"tokenizer_class": "BertTokenizer", "model_max_length": 100}
ADDED = {"content": "[unused0]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
NAMED = {"extra_special_tokens": {"image_token": "[unused5]"}}
CASED = {"normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": False}}


@pytest.fixture
def folder(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A plain embedding checkpoint, to do with as one likes."""
    return Path(shutil.copytree(checkpoints.bert(), tmp_path / "bert"))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"tokenizer_config": {**BERT, "do_lower_case": False}}, id="cased"),
        pytest.param({"tokenizer_config": {**BERT, "strip_accents": False}}, id="accents kept"),
        pytest.param({"tokenizer_config": {**BERT, "tokenize_chinese_chars": False}}, id="Chinese as other words"),
        pytest.param({"tokenizer_config": {"added_tokens_decoder": {"1": {**ADDED, "special": True}}}}, id="added"),
        pytest.param({"tokenizer_config": NAMED | {"image_token": "[unused5]"}}, id="named, and named again"),
        pytest.param({"special_tokens_map": {"additional_special_tokens": ["[unused5]"]}}, id="a map of special ones"),
        pytest.param({"added_tokens": {"[unused5]": 6}}, id="added_tokens.json"),
        pytest.param({"sentence_bert_config": {"max_seq_length": 16}}, id="a length"),
        pytest.param({"sentence_roberta_config": {"max_seq_length": 16}}, id="a length in a file's older name"),
        pytest.param({"sentence_xlm-roberta_config": {"max_seq_length": 16}}, id="a length in another older name"),
        pytest.param({"sentence_bert_config": {"processor_kwargs": {"model_max_length": 9}}}, id="processor_kwargs"),
        pytest.param(
            {"tokenizer_config": BERT, "sentence_bert_config": {"tokenizer_args": {"do_lower_case": False}}},
            id="tokenizer_args",
        ),
        pytest.param(
            {
                "tokenizer_config": {**BERT, "do_lower_case": False},
                "sentence_bert_config": {"do_lower_case": True, "max_seq_length": 20},
            },
            id="lower-cased by sentence-transformers",
        ),
    ],
)
def test_texts_become_the_tokens_of_sentence_transformers(folder: Path, files: dict[str, Any]) -> None:
    put(folder, **files)
    theirs = SentenceTransformer(str(folder), device="cpu")
    description, checkpoint = described(folder), Checkpoint(folder)
    ours = Tokenizer.from_str(checkpoint.tokenizer.decode())
    ours.no_padding()
    ours.enable_truncation(description.max_length)
    assert [ours.encode(text).ids for text in TEXTS] == [
        theirs.preprocess([text])["input_ids"][0].tolist() for text in TEXTS
    ]


def test_a_tokenizer_that_transformers_leaves_as_it_is_is_served_byte_for_byte(folder: Path) -> None:
    assert Checkpoint(folder).tokenizer == (folder / "tokenizer.json").read_bytes()


def test_a_tokenizer_saved_by_transformers_5_is_what_its_file_says(folder: Path) -> None:
    put(folder, tokenizer_config={"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "is_local": False})
    assert Checkpoint(folder).tokenizer == (folder / "tokenizer.json").read_bytes()


def test_special_tokens_by_the_name_that_transformers_5_has_for_them_are_those_of_4(folder: Path) -> None:
    put(folder, tokenizer_config=NAMED)
    expected = Checkpoint(folder).tokenizer
    newer = {"model_specific_special_tokens": NAMED["extra_special_tokens"], "extra_special_tokens": []}
    put(folder, tokenizer_config=newer | {"image_token": "[unused5]"})
    assert Checkpoint(folder).tokenizer == expected


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"tokenizer_config": {"extra_special_tokens": ["[unused5]"]}}, id="saved by transformers 5"),
        pytest.param({"tokenizer_config": {**BERT, "do_lower_case": False}}, id="cased by its class"),
        pytest.param({"sentence_bert_config": {"processor_kwargs": {"model_max_length": 9}}}, id="processor_kwargs"),
        pytest.param({"tokenizer": CASED, "sentence_bert_config": {"do_lower_case": True}}, id="lower-cased"),
    ],
)
def test_so_do_those_of_an_architecture_that_only_conch_computes(
    checkpoints: Checkpoints, tmp_path: Path, files: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(checkpoints.nomic_bert(), tmp_path / "nomic"))
    put(folder, **files)
    export(Options(str(folder), tmp_path / "models", precision=Precision.FP32))  # compared with sentence-transformers


def test_a_vocabulary_alone_becomes_a_tokenizer(folder: Path) -> None:
    expected = Checkpoint(folder).tokenizer
    vocabulary = json.loads(expected)["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)), "utf-8")
    put(folder, tokenizer=None, tokenizer_config=BERT)
    made, known = (Tokenizer.from_str(each.decode()) for each in (Checkpoint(folder).tokenizer, expected))
    known.no_truncation()
    known.no_padding()
    assert [made.encode(text).ids for text in TEXTS[:1]] == [known.encode(text).ids for text in TEXTS[:1]]


def test_a_template_that_repeats_a_text_is_refused_by_name(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}] * 2
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "single": pair[:1], "pair": pair, "special_tokens": {},
    }  # fmt: skip
    put(folder, tokenizer=tokenizer)
    with pytest.raises(UnsupportedError, match=r"the same text twice .* mend post_processor in tokenizer\.json"):
        described(folder)


def test_a_special_token_that_is_named_twice_and_differs_is_refused(folder: Path) -> None:
    put(folder, tokenizer_config=NAMED | {"image_token": "[unused6]"})
    with pytest.raises(UnsupportedError, match=r"states image_token = '\[unused6\]', which is not known"):
        described(folder)
