"""What an operator is told when Triton does not start, by lines of its log as release 24.10 writes them."""

from __future__ import annotations

import pytest
from conch_server._failure import explain

PLACE = "2026-01-01T00:00:00Z E 7 model_lifecycle.cc:642] "
ENSEMBLE = (
    "2026-01-01T00:00:00Z E 7 model_repository_manager.cc:703] \"Invalid argument: ensemble 'm' depends on 'm.encoder' "
    'which has no loaded version."'
)
AMBIGUOUS = f'{PLACE}"Invalid argument: ensemble m contains models that are not available or ambiguous: m.encoder"'
LAST = "error: creating server: Internal - failed to load all models"


def not_loaded(model: str, reason: str) -> str:
    return f"{PLACE}\"failed to load '{model}' version 1: {reason}\""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        pytest.param(
            [
                not_loaded("m.encoder", r"Internal: InvalidProtobuf: Protobuf parsing failed.\n\nAt:\n  x"),
                ENSEMBLE,
            ],
            "Triton cannot load m.encoder (InvalidProtobuf: Protobuf parsing failed); "
            "export it again with `conch export`, or move its folder out of the model repository",
            id="a graph that is damaged",
        ),
        pytest.param(
            [not_loaded("m.pooling", r"Internal: ConfigError: model 'm.pooling': the graph takes ['x']\n\nAt:\n  y")],
            "Triton cannot load m.pooling (the graph takes ['x']); "
            "export it again with `conch export`, or move its folder out of the model repository",
            id="a configuration of another graph",
        ),
        pytest.param(
            [
                "[libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: 62:9: Bad.",
                f"{PLACE}\"Poll failed for model directory 'm.encoder': failed to read text proto from /config.pbtxt\"",
                AMBIGUOUS,
            ],
            "Triton cannot load m.encoder (failed to read text proto from /config.pbtxt: 62:9: Bad); "
            "export it again with `conch export`, or move its folder out of the model repository",
            id="a configuration that is no protobuf text",
        ),
        pytest.param(
            [AMBIGUOUS],
            "Triton cannot load m (not available or ambiguous: m.encoder); "
            "export it again with `conch export`, or move its folder out of the model repository",
            id="a step that is missing",
        ),
        pytest.param(
            [not_loaded("m", "Internal: Unable to initialize shared memory key 'k'. Error: No space left on device")],
            "Triton cannot load m (Unable to initialize shared memory key 'k'. Error: No space left on device); "
            "make /dev/shm larger; every model instance needs 1 MiB of it (docker: --shm-size)",
            id="no room in shared memory",
        ),
        pytest.param(
            [not_loaded("m", "Invalid argument: unable to find backend library for backend 'foo'.")],
            "Triton cannot load m (unable to find backend library for backend 'foo'); "
            "serve it with docker compose: the embedded Triton has the backend onnxruntime alone",
            id="another backend",
        ),
        pytest.param(
            [not_loaded(name, "Internal: no") for name in "abcde"],
            "Triton cannot load a (no), b (no), c (no) and 2 more; "
            "export it again with `conch export`, or move its folder out of the model repository",
            id="many",
        ),
        pytest.param(
            ["tritonserver: error while loading shared libraries: libx.so: cannot open shared object file"],
            "Triton ended with status 1: "
            "tritonserver: error while loading shared libraries: libx.so: cannot open shared object file",
            id="a library that is missing",
        ),
        pytest.param([], "Triton ended with status 1", id="no log"),
    ],
)
def test_the_reason_and_the_fix_are_one_sentence(log: list[str], told: str) -> None:
    noise = ['2026-01-01T00:00:00Z I 7 server.cc:1] "loading"', "+-----+", "| m | UNAVAILABLE |"]
    assert explain(1, [*noise, *log, *([LAST] if log and PLACE in log[0] else [])]) == told


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (137, "Triton was ended by SIGKILL, as by the kernel when memory runs out"),
        (139, "Triton was ended by SIGSEGV"),
        (-9, "the warden of Triton was ended by SIGKILL, as by the kernel when memory runs out"),
    ],
)
def test_a_signal_is_named(status: int, told: str) -> None:
    assert explain(status, []) == told
