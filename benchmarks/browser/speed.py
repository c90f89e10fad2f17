"""Tokens a second beside transformers.js, in one page, in turns: the same texts, the same weights by optimum."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import workloads
from benchmarks.browser.server import Served
from tests.web.browser import Chromium

if TYPE_CHECKING:
    from benchmarks.browser.prepared import Prepared

ROUNDS, THREADS, MANY, LONGEST = 5, (1, 2), 32, 256
DTYPES = {"int8": "q8", "fp32": "fp32"}
"""transformers.js's names of precisions."""
IN_TURNS = """async ({precision, dtype, threads, loads, rounds}) => {
    const { load } = await import("/conch-web/conch-web.js");
    const { pipeline, env } = await import("/transformers/transformers.min.js");
    Object.assign(env, {allowRemoteModels: false, allowLocalModels: true, localModelPath: "/peer/"});
    const runtime = "/transformers/ort-wasm-simd-threaded.asyncify";
    const address = (kind) => new URL(`${runtime}.${kind}`, location.href).href;
    const wasmPaths = {mjs: address("mjs"), wasm: address("wasm")};
    Object.assign(env.backends.onnx.wasm, {numThreads: threads, wasmPaths});
    const ours = await load(`/minilm-${precision}/`, {threads});
    const theirs = await pipeline("feature-extraction", "minilm", {dtype, device: "wasm"});
    const systems = {
        "conch-web": (texts) => ours.embed(texts),
        "transformers.js": async (texts) => (await theirs(texts, {pooling: "mean", normalize: true})).tolist(),
    };
    const seconds = {}, vectors = {};
    for (const name of Object.keys(systems)) {
        seconds[name] = Object.fromEntries(Object.keys(loads).map((load) => [load, []]));
        vectors[name] = (await systems[name](loads.mixed)).map((vector) => Array.from(vector)); // and warmed up
        await systems[name](loads.single);
    }
    for (let round = 0; round < rounds; round++)
        for (const [load, texts] of Object.entries(loads))
            for (const [name, embed] of Object.entries(systems)) {
                const times = load === "single" ? 10 : 1, began = performance.now();
                for (let time = 0; time < times; time++) await embed(texts);
                seconds[name][load].push((performance.now() - began) / 1000 / times);
            }
    const cosines = vectors["conch-web"].map((vector, row) =>
        vector.reduce((sum, number, place) => sum + number * vectors["transformers.js"][row][place], 0));
    return {threads: ours.threads, seconds, cosine: Math.min(...cosines)};
}"""


def measure(files: Prepared) -> dict[str, Any]:
    """One text of 40 tokens, and 32 texts of mixed lengths, in every precision, on one thread and on two."""
    mixed = [item for item in workloads.make("mixed", files.tokenizer) if len(item.ids) <= LONGEST][:MANY]
    single = workloads.make(workloads.SINGLE, files.tokenizer)[:1]
    items = {"single": single, "mixed": mixed}
    loads = {name: [item.text for item in part] for name, part in items.items()}
    tokens = {name: sum(len(item.ids) for item in part) for name, part in items.items()}
    rows = []
    with Served(files.web) as served, Chromium() as chromium:
        for precision, dtype in DTYPES.items():
            for threads in THREADS:
                argument = {
                    "precision": precision,
                    "dtype": dtype,
                    "threads": threads,
                    "loads": loads,
                    "rounds": ROUNDS,
                }
                found = chromium.run(served.url, IN_TURNS, argument)
                assert found["threads"] == threads, "the page is not isolated"
                rows.append(
                    {"precision": precision, "threads": threads, "cosine": found["cosine"]} | _rates(found, tokens)
                )
    return {
        "rounds": ROUNDS,
        "tokens": tokens,
        "texts": {name: len(part) for name, part in items.items()},
        "rows": rows,
    }


def _rates(found: dict[str, Any], tokens: dict[str, int]) -> dict[str, Any]:
    rates = {
        name: {load: round(tokens[load] / median(times), 1) for load, times in of_loads.items()}
        for name, of_loads in found["seconds"].items()
    }
    # Of each round, in which both systems met the same disturbances.
    ours, theirs = found["seconds"]["conch-web"], found["seconds"]["transformers.js"]
    ratios = {load: [b / a for a, b in zip(ours[load], theirs[load], strict=True)] for load in ours}
    return {
        "tokens_per_s": rates,
        "ratio": {load: round(median(each), 2) for load, each in ratios.items()},
        "ratios": {load: [round(ratio, 2) for ratio in each] for load, each in ratios.items()},
    }
