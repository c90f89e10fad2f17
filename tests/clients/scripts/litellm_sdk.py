"""LiteLLM: its SDK over the dialects of seven providers, and its proxy in front of the gateway."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import litellm
import openai
import requests

url, work = sys.argv[1], json.load(sys.stdin)
key, texts, query, documents = work["key"], work["texts"], work["query"], work["documents"]
model, reranker = work["model"], work["reranker"]
litellm.suppress_debug_info = True


def vectors(name, base, **further):
    answer = litellm.embedding(model=name, input=texts, api_base=base, api_key=key, **further)
    return [item["embedding"] for item in answer.data]


def ranking(name, base, **further):
    answer = litellm.rerank(
        model=name, query=query, documents=documents, top_n=3, api_base=base, api_key=key, **further
    )
    return [result["index"] for result in answer.results]


def refusal(name, base):
    try:
        vectors(name, base)
    except litellm.NotFoundError as error:
        return str(error)


def through_the_proxy(folder):
    """What the proxy's users get, who speak OpenAI's and Cohere's dialects to it."""
    port, master_key = work["free port"], f"sk-{secrets.token_hex(16)}"
    upstreams = {
        "embedder": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": key},
        "ranker": {"model": f"voyage/{reranker}", "api_base": url, "api_key": key},
    }
    listed = [{"model_name": name, "litellm_params": upstream} for name, upstream in upstreams.items()]
    config = Path(folder) / "config.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": listed, "general_settings": {"master_key": master_key}}))
    program = Path(sys.executable).with_name("litellm")
    command = [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, cwd=folder) as proxy:
        try:
            base = f"http://127.0.0.1:{port}"
            wait_for(f"{base}/health/liveliness", proxy)
            client = openai.OpenAI(base_url=base, api_key=master_key)
            embedded = client.embeddings.create(model="embedder", input=texts)
            body = {"model": "ranker", "query": query, "documents": documents, "top_n": 3}
            headers = {"authorization": f"Bearer {master_key}"}
            reranked = requests.post(f"{base}/rerank", json=body, headers=headers, timeout=60).json()
            return [item.embedding for item in embedded.data], [result["index"] for result in reranked["results"]]
        finally:
            proxy.terminate()


def wait_for(address, process):
    while process.poll() is None:
        try:
            requests.get(address, timeout=5).raise_for_status()
            return
        except requests.RequestException:  # noqa: PERF203 - it is not up yet
            time.sleep(0.2)
    raise RuntimeError("the proxy has ended; it says above why")


with tempfile.TemporaryDirectory() as folder:
    proxied_vectors, proxied_ranking = through_the_proxy(folder)

said = {
    "vectors of OpenAI": vectors(f"openai/{model}", f"{url}/v1"),
    "vectors of Azure": vectors(f"azure/{model}", url, api_version="2024-10-21"),
    "vectors of Voyage": vectors(f"voyage/{model}", f"{url}/v1"),
    "vectors of Jina": vectors(f"jina_ai/{model}", f"{url}/v1"),
    "vectors of Cohere": vectors(f"cohere/{model}", f"{url}/v2/embed"),
    "vectors of NIM": vectors(f"nvidia_nim/{model}", f"{url}/v1"),
    "vectors of vLLM": vectors(f"hosted_vllm/{model}", f"{url}/v1"),
    "vectors of infinity": vectors(f"infinity/{model}", f"{url}/v1"),
    "vectors through the proxy": proxied_vectors,
    "ranking of Voyage": ranking(f"voyage/{reranker}", url),
    "ranking of Jina": ranking(f"jina_ai/{reranker}", f"{url}/v1"),
    "ranking of Cohere": ranking(f"cohere/{reranker}", url),
    "ranking of NIM": ranking(f"nvidia_nim/ranking/{reranker}", url),
    "ranking of vLLM": ranking(f"hosted_vllm/{reranker}", url),
    "ranking of TEI": ranking(f"huggingface/{reranker}", url),
    "ranking of infinity": ranking(f"infinity/{reranker}", f"{url}/v1", return_documents=False),
    "ranking through the proxy": proxied_ranking,
    "refusal": refusal("openai/no-such-model", f"{url}/v1"),
    "refusal of Voyage": refusal("voyage/no-such-model", f"{url}/v1"),
}
print(json.dumps(said))
