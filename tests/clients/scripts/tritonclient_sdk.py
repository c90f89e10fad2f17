"""Triton's own client: the wire contract is what a tokenizer gives, rows padded to one length."""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tokenizers import Tokenizer

url, work = sys.argv[1], json.load(sys.stdin)
tokenizer = Tokenizer.from_file(work["tokenizer"])
tokenizer.enable_padding()
tokenizer.enable_truncation(256)

rows = tokenizer.encode_batch(work["texts"])
tensors = []
for name, values in (
    ("input_ids", [row.ids for row in rows]),
    ("attention_mask", [row.attention_mask for row in rows]),
):
    array = np.array(values, np.int64)
    tensor = triton.InferInput(name, array.shape, "INT64")
    tensor.set_data_from_numpy(array)
    tensors.append(tensor)

with triton.InferenceServerClient(url) as client:
    vectors = client.infer(work["model"], tensors).as_numpy("embedding")
    try:
        client.infer("no-such-model", tensors)
    except triton.InferenceServerException as error:
        refusal = error

print(json.dumps({"vectors": vectors.tolist(), "refusal": refusal.message()}))
