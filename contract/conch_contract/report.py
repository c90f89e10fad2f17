"""The part of an export's `report.json` that others read: a text, and the vector that its authors' library computes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conch_contract.errors import DescriptionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

REPORT = "report.json"
"""Name of the file, in the folder of the model that was exported."""
KNOWN_ANSWER = "known_answer"
"""Key of the text and the vector in the report."""


@dataclass(frozen=True)
class KnownAnswer:
    """A text and its vector, which an embedding model should give for it.

    Attributes:
        text: Without the model's default prompt, which clients put before it.
        vector: float32 [dimension], as the authors' library computed it.
    """

    text: str
    vector: NDArray[np.float32]

    def to_report(self) -> dict[str, str]:
        """The entry of the report: the vector is little-endian float32 in base64."""
        return {"text": self.text, "vector": base64.b64encode(self.vector.astype("<f4").tobytes()).decode()}

    @classmethod
    def read(cls, report: Path) -> Self | None:
        """Reads the entry; None where there is no such file, or none in it: not every model gives one vector.

        Raises:
            DescriptionError: The file or the entry is malformed.
        """
        try:
            entry = json.loads(report.read_text("utf-8")).get(KNOWN_ANSWER)
            if entry is None:
                return None
            vector = np.frombuffer(base64.b64decode(entry["vector"], validate=True), "<f4").astype(np.float32)
            return cls(str(entry["text"]), vector)
        except FileNotFoundError:
            return None
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise DescriptionError(f"{report}: its {KNOWN_ANSWER} cannot be read ({error!r}); export again") from error

    def cosine(self, vector: NDArray[np.float32]) -> float:
        """Of the angle between the known vector and this one; 0 where either has no direction, or another length."""
        if vector.shape != self.vector.shape:
            return 0.0
        lengths = float(np.linalg.norm(self.vector)) * float(np.linalg.norm(vector))
        cosine = float(np.dot(self.vector.astype(np.float64), vector)) / lengths if lengths else 0.0
        return cosine if np.isfinite(cosine) else 0.0
