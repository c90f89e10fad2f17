"""Runs a graph with onnxruntime's defaults, as Triton's official backend does, in a process that it may end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection


def answer(graph: str, feeds: Sequence[dict[str, Any]], to: Connection) -> None:
    """Send the outputs of every run by their names; of a run that is refused there is the message, as `error`."""
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    to.send([_run(session, feed) for feed in feeds])


def _run(session: ort.InferenceSession, feed: dict[str, Any]) -> dict[str, Any]:
    names = [tensor.name for tensor in session.get_outputs()]
    try:
        outputs = session.run(names, {tensor.name: feed[tensor.name] for tensor in session.get_inputs()})
    except Exception as error:  # noqa: BLE001  onnxruntime has no common base for what a graph can raise
        return {"error": str(error)}
    return dict(zip(names, outputs, strict=True))
