/**
 * conch-web: the models that conch serves, computed in the browser.
 *
 *     const model = await load("/web/all-minilm-l6-v2/");
 *     const vector = await model.embed("How do I reverse a list?");
 *     const best = await model.rerank("reverse a list", documents);
 *     model.dispose();
 */

import { Channel, SERVE_WORKER } from "./channel.js";
import type { EmbedOptions, TokenOptions } from "./engine/embed.js";
import type { Description } from "./engine/model.js";
import type { Ranked, RerankOptions } from "./engine/rerank.js";
import { spaceOf, type VectorOptions } from "./engine/vectors.js";
import { DisposedError, DownloadError, InvalidInputError, UnsupportedBrowserError } from "./errors.js";
import type { Progress } from "./files.js";
import type { MaxLength } from "./lengths.js";
import type { ModelInfo } from "./manifest.js";
import { checkBrowser, threadsFor } from "./requirements.js";

export type { EmbedOptions, TokenOptions } from "./engine/embed.js";
export type { Ranked, RerankOptions } from "./engine/rerank.js";
export type { VectorOptions } from "./engine/vectors.js";
export * from "./errors.js";
export type { Progress } from "./files.js";
export { LENGTHS, type MaxLength } from "./lengths.js";
export type { Interaction, ModelInfo } from "./manifest.js";
export type { Truncate } from "./tokenization/truncation.js";

export interface LoadOptions {
  /** Most tokens of a text, or "short" (1,024), "medium" (2,048), "long" (4,096), "maximum" (8,192); the model's own by default. */
  maxLength?: MaxLength;
  /** Threads, if the page is cross-origin isolated (by default one per core, up to four); otherwise it is one. */
  threads?: number;
  /** Headers of every request for the model's files, such as `{Authorization: "Bearer …"}`. */
  headers?: Record<string, string>;
  /** The folder of worker.js and onnxruntime's files, ending in `/`, if a bundler has moved this module away from them. */
  assets?: string | URL;
  /** Called as bytes arrive. */
  onProgress?: (progress: Progress) => void;
  /** Aborts loading. */
  signal?: AbortSignal;
}

/**
 * Loads a model that `conch web` wrote, from the URL of its folder or of its conch.json.
 *
 * Files are checked against their hashes and kept in the browser's cache. Everything runs in a worker of its own.
 *
 * @throws InvalidInputError, UnsupportedBrowserError, DownloadError, IntegrityError, ManifestError, TokenizerError, OutOfMemoryError
 */
export async function load(url: string | URL, options: LoadOptions = {}): Promise<Model> {
  checkBrowser();
  const { maxLength, threads: wanted, headers = {}, onProgress = () => undefined, signal } = options;
  const threads = threadsFor(wanted);
  const assets = options.assets === undefined ? new URL(".", import.meta.url) : addressOf(options.assets);
  const manifest = manifestAddress(url);
  const worker = startedWorker(new URL("worker.js", assets));
  const channel = new Channel(worker, onProgress);
  const abort = () => channel.close(new DownloadError("loading was aborted by its signal"));
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  try {
    const opened = { headers, threads, runtime: assets.href, ...(maxLength === undefined ? {} : { maxLength }) };
    return new Model(channel, await channel.call("open", manifest, opened), threads);
  } catch (error) {
    worker.terminate();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** A loaded model; made by `load`. */
export class Model {
  /** The name under which it was exported. */
  readonly name: string;
  /** Descriptions of the embedding model, the reranker, or both. */
  readonly models: readonly ModelInfo[];
  /** Dimension of its vectors; null for a reranker. */
  readonly dimension: number | null;
  /** Most tokens of a text. */
  readonly maxLength: number;
  /** Names of the prompts that `promptName` takes. */
  readonly prompts: readonly string[];
  /** Vector space, the same as on the server; only vectors of one space can be compared. Null for a reranker. */
  readonly spaceId: string | null;

  constructor(
    private readonly channel: Channel,
    { name, models }: Description,
    /** Threads that it runs on. */
    readonly threads: number,
  ) {
    const [first] = models as [ModelInfo];
    this.name = name;
    this.models = models;
    this.dimension = first.dimension;
    this.maxLength = first.max_length;
    this.prompts = Object.keys(first.prompts);
    this.spaceId = spaceOf(first);
  }

  /** A text's vector, or one for each of a list of texts. */
  embed(text: string, options?: EmbedOptions): Promise<Float32Array>;
  embed(texts: readonly string[], options?: EmbedOptions): Promise<Float32Array[]>;
  async embed(texts: string | readonly string[], options: EmbedOptions = {}): Promise<Float32Array | Float32Array[]> {
    const isOne = typeof texts === "string";
    const vectors = await this.channel.call("embed", isOne ? [texts] : texts, options);
    return isOne ? (vectors[0] as Float32Array) : vectors;
  }

  /** Ranks documents for a query, by descending score. */
  rerank(query: string, documents: readonly string[], options: RerankOptions = {}): Promise<Ranked[]> {
    return this.channel.call("rerank", query, documents, options);
  }

  /** The token ids that the model reads for texts, special tokens included. */
  tokenize(texts: readonly string[], options: TokenOptions = {}): Promise<number[][]> {
    return this.channel.call("tokenize", texts, options);
  }

  /** The space of the vectors that `embed` gives with these options. */
  spaceOf(options: VectorOptions = {}): string | null {
    return spaceOf(this.models[0] as ModelInfo, options);
  }

  /** Ends the worker and frees its memory; calls that are not answered yet are rejected. */
  dispose(): void {
    this.channel.close(new DisposedError(`${this.name} was disposed of; load it again`));
  }
}

function startedWorker(url: URL): Worker {
  try {
    return new Worker(url, { type: "module", name: "conch-web" });
  } catch (error) {
    throw new UnsupportedBrowserError(`the browser does not start ${url} (${error}); ${SERVE_WORKER}`);
  }
}

function manifestAddress(url: string | URL): string {
  const address = addressOf(url);
  if (address.pathname.endsWith(".json")) return address.href;
  if (!address.pathname.endsWith("/")) address.pathname += "/";
  return new URL("conch.json", address).href;
}

function addressOf(url: string | URL): URL {
  const page = globalThis.document?.baseURI ?? location.href; // a worker has no document
  try {
    return new URL(url, page);
  } catch {
    throw new InvalidInputError(`${url} is no address; pass one like https://example.org/web/NAME/, or a path`);
  }
}
