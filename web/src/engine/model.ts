/** A loaded model in the worker: opens its files and graphs, and answers calls. */

import { InvalidInputError } from "../errors.js";
import { Files, type Progress, readManifest, sourceOf } from "../files.js";
import { lengthFor, type MaxLength } from "../lengths.js";
import { type GraphFiles, type ModelInfo, parseManifest } from "../manifest.js";
import { TextTokenizer } from "../tokenization/tokenizer.js";
import { type EmbedOptions, embed, type Loaded, rowsOf, type TokenOptions } from "./embed.js";
import { Encoder, type GraphBytes, Head, start } from "./graphs.js";
import { checkText, checkTexts } from "./inputs.js";
import { type Ranked, type RerankOptions, rerank } from "./rerank.js";

export interface OpenOptions {
  maxLength?: MaxLength;
  headers: Record<string, string>;
  threads: number;
  /** The folder of onnxruntime's files. */
  runtime: string;
}

/** The description of a model for the page. */
export interface Description {
  name: string;
  /** Descriptions of the embedding model, the reranker, or both. */
  models: ModelInfo[];
}

export class WorkerModel {
  private constructor(
    readonly description: Description,
    private readonly loaded: readonly Loaded[],
  ) {}

  /** Fetches, checks and opens a model. onnxruntime starts, and graphs open, while other files still arrive. */
  static async open(url: string, options: OpenOptions, onProgress: (progress: Progress) => void): Promise<WorkerModel> {
    const started = start(new URL(options.runtime), options.threads);
    const [model] = await Promise.all([WorkerModel.#opened(url, options, onProgress), started]);
    return model;
  }

  static async #opened(
    url: string,
    options: OpenOptions,
    onProgress: (progress: Progress) => void,
  ): Promise<WorkerModel> {
    const address = new URL(url);
    const source = sourceOf(new URL(".", address), options.headers);
    const { text, isSettled } = await readManifest(address, source);
    const manifest = parseManifest(text, url);
    const infos = manifest.models.map((info) => shortened(info, options.maxLength));
    const files = new Files(source, manifest.files, onProgress);
    const [tokenizer, encoder, ...heads] = await Promise.all([
      files.read(manifest.tokenizer).then((bytes) => readTokenizer(bytes, manifest.probes)),
      bytesOf(files, manifest.encoder).then(Encoder.open),
      ...infos.map(async ({ head }, index) => head && openedHead(await bytesOf(files, head), index === 0)),
    ]);
    if (!isSettled) await files.settle(address, text);
    const loaded = infos.map((info, index) => ({ info, tokenizer, encoder, head: heads[index] ?? null }));
    return new WorkerModel({ name: manifest.name, models: infos }, loaded);
  }

  async embed(texts: unknown, options: EmbedOptions): Promise<Float32Array[]> {
    return embed(this.#find("embeds texts", "embedding"), checkTexts(texts, "texts"), options);
  }

  async rerank(query: unknown, documents: unknown, options: RerankOptions): Promise<Ranked[]> {
    const model = this.#find("ranks documents", "late-interaction", "cross-encoder");
    return rerank(model, checkText(query, "query"), checkTexts(documents, "documents"), options);
  }

  /** The token ids that the model reads for texts. */
  async tokenize(texts: unknown, options: TokenOptions): Promise<number[][]> {
    return rowsOf(this.loaded[0] as Loaded, checkTexts(texts, "texts"), options).map((row) => row.ids);
  }

  #find(does: string, ...tasks: ModelInfo["task"][]): Loaded {
    const found = this.loaded.find(({ info }) => tasks.includes(info.task));
    if (found) return found;
    const has = this.loaded.map(({ info }) => `${info.name} (${info.task})`).join(", ");
    throw new InvalidInputError(`no model here ${does}: the folder has ${has}; load another one`);
  }
}

/** The description with its lengths limited to the wanted one. */
function shortened(info: ModelInfo, wanted: MaxLength | undefined): ModelInfo {
  const length = lengthFor(wanted, info.max_length);
  const { interaction } = info;
  if (!interaction) return { ...info, max_length: length };
  const documents = Math.min(interaction.document_length, length);
  return { ...info, max_length: length, interaction: { ...interaction, document_length: documents } };
}

function readTokenizer(bytes: Uint8Array, probes: { text: string; ids: number[] }[]): TextTokenizer {
  const tokenizer = new TextTokenizer(new TextDecoder().decode(bytes));
  tokenizer.check(probes);
  return tokenizer;
}

/** What opens a head once: at once, or when it is first used, as most pages never rank documents. */
async function openedHead(bytes: GraphBytes, atOnce: boolean): Promise<() => Promise<Head>> {
  let head: Promise<Head> | undefined;
  const open = () => (head ??= Head.open(bytes));
  if (atOnce) await open();
  return open;
}

async function bytesOf(files: Files, { graph, data }: GraphFiles): Promise<GraphBytes> {
  const [bytes, ...others] = await Promise.all([graph, ...Object.values(data)].map((path) => files.read(path)));
  const beside = Object.keys(data).map((name, index) => [name, others[index] as Uint8Array]);
  return { graph: bytes as Uint8Array, data: Object.fromEntries(beside) };
}
