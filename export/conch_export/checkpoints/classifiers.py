"""The labels of a sequence classifier: what they are called, how logits become scores, and which one ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_export.checkpoints.architecture import label_names
from conch_export.errors import UndecidedError, UnsupportedError

if TYPE_CHECKING:
    from conch_contract import Activation

    from conch_export.checkpoints.settings import Settings

_HEAD = "ForSequenceClassification"
_OTHER_HEADS = {
    "ForTokenClassification": "labels of single tokens, such as named entities,",
    "ForQuestionAnswering": "places of answers",
    "ForMultipleChoice": "choices among several texts",
    "ForNextSentencePrediction": "predictions of the next sentence",
}
"""Endings of the names of transformers' classes whose answers are not served, and what those answers are."""
_PROBLEMS: dict[str, Activation] = {
    "regression": "identity",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


class Labels:
    """A classifier's labels and problem type, from config.json.

    Attributes:
        are_of_a_head: whether the checkpoint is a sequence classifier.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._classes = config.texts("architectures")
        self.are_of_a_head = any(name.endswith(_HEAD) for name in self._classes)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return label_names(self._config)

    def activation(self, stated: Activation | None) -> Activation:
        """How logits become scores: as transformers' text-classification pipeline does it.

        Args:
            stated: what sentence-transformers would apply; None where the checkpoint does not state it.

        Raises:
            UnsupportedError: the checkpoint states a kind of problem that is not known.
        """
        several = len(self.names) > 1
        if several and stated in ("softmax", "sigmoid"):
            return stated
        problem = self._config.of("problem_type", str, "")
        if problem and problem not in _PROBLEMS:
            msg = f"{self._config.place} states problem_type = {problem!r}, which is not built ({', '.join(_PROBLEMS)})"
            raise UnsupportedError(msg)
        if problem == "regression" or several:
            return _PROBLEMS.get(problem, "softmax")
        return "sigmoid"

    def number(self, label: str | None) -> int | None:
        """The number of the label that a reranker scores by; None where there is one label only.

        Raises:
            UndecidedError: there are several, and the operator has named none.
            UnsupportedError: there is no label of that name.
        """
        names = ", ".join(self.names)
        if label is None:
            if len(self.names) > 1:
                msg = f"a reranker scores by one label, but the checkpoint has several: state --label, one of {names}"
                raise UndecidedError(msg)
            return None
        if self.names.count(label) != 1:
            found = "several labels of that name" if label in self.names else "no such label"
            raise UnsupportedError(f"--label {label}: the checkpoint has {found} (it has: {names})")
        return self.names.index(label) if len(self.names) > 1 else None

    def refuse_other_heads(self) -> None:
        """Raise UnsupportedError for a checkpoint whose head answers something that is not served."""
        for name in self._classes:
            for ending, answers in _OTHER_HEADS.items():
                if name.endswith(ending):
                    msg = (
                        f"{self._config.place} is of a {name}: {answers} are not served. If its encoder alone is "
                        "wanted, state --task embedding"
                    )
                    raise UnsupportedError(msg)
