"""The contract between an export and its clients: what `config.pbtxt` says of a model, and how it is given texts.

An export writes it, clients and the gateway read it, and verification runs the same code as clients do. Beside it,
`machine` counts the cores that a process may use, on which plans and servers have to agree. Needs numpy and no more.
"""

from __future__ import annotations

from conch_contract.classification import Activation, label_scores
from conch_contract.errors import ConchError, DescriptionError, InvalidInputError, SpaceError
from conch_contract.interaction import QUERY_PROMPT, Interaction
from conch_contract.machine import control_groups, usable_cores
from conch_contract.model_info import FORMAT, FORMAT_PARAMETER, SPACE_PARAMETER, ModelInfo
from conch_contract.names import (
    DERIVED,
    ENCODER,
    HEADS,
    INNER_NAMES,
    TOKENIZER,
    bridge_name,
    derived_name,
    encoder_name,
    head_name,
    is_bridge_name,
    queries_name,
    tokenizer_name,
)
from conch_contract.pair_template import FramedPair, Span, is_pair_template, splits_texts, takes_instruction
from conch_contract.prompts import PLAIN_PROMPT, prompt_length
from conch_contract.report import KNOWN_ANSWER, REPORT, KnownAnswer
from conch_contract.space import APPROXIMATELY, approximated_space_of, check_space, space_of, units
from conch_contract.tasks import RERANKERS, Task
from conch_contract.tokenizer import repeats_a_text
from conch_contract.truncation import Truncate, longest_first
from conch_contract.web import (
    WEB_ENTRY,
    WEB_FORMAT,
    WEB_MANIFEST,
    WEB_MODULE,
    WEB_TASKS,
    WebFile,
    WebModel,
    read_web_model,
    stored_name,
)

__all__ = [
    "APPROXIMATELY",
    "DERIVED",
    "ENCODER",
    "FORMAT",
    "FORMAT_PARAMETER",
    "HEADS",
    "INNER_NAMES",
    "KNOWN_ANSWER",
    "PLAIN_PROMPT",
    "QUERY_PROMPT",
    "REPORT",
    "RERANKERS",
    "SPACE_PARAMETER",
    "TOKENIZER",
    "WEB_ENTRY",
    "WEB_FORMAT",
    "WEB_MANIFEST",
    "WEB_MODULE",
    "WEB_TASKS",
    "Activation",
    "ConchError",
    "DescriptionError",
    "FramedPair",
    "Interaction",
    "InvalidInputError",
    "KnownAnswer",
    "ModelInfo",
    "SpaceError",
    "Span",
    "Task",
    "Truncate",
    "WebFile",
    "WebModel",
    "approximated_space_of",
    "bridge_name",
    "check_space",
    "control_groups",
    "derived_name",
    "encoder_name",
    "head_name",
    "is_bridge_name",
    "is_pair_template",
    "label_scores",
    "longest_first",
    "prompt_length",
    "queries_name",
    "read_web_model",
    "repeats_a_text",
    "space_of",
    "splits_texts",
    "stored_name",
    "takes_instruction",
    "tokenizer_name",
    "units",
    "usable_cores",
]
