/**
 * The manifest conch.json, which `conch web` writes: the description of a model, and its files.
 *
 * Fields of a model are those of `conch_contract.ModelInfo`, under the same names.
 */

import { ManifestError } from "./errors.js";

const FORMAT = 1;

/** A file's size in bytes and its SHA-256, 64 hexadecimal digits. */
export interface FileInfo {
  bytes: number;
  sha256: string;
}

/** Path of a graph, and paths of its files of weights by the names that the graph uses. */
export interface GraphFiles {
  graph: string;
  data: Record<string, string>;
}

/** Token rows of queries and documents for late interaction; see `conch_contract.Interaction`. */
export interface Interaction {
  query_marker: number | null;
  document_marker: number | null;
  query_length: number;
  document_length: number;
  augmentation: number | null;
  attends_to_augmentation: boolean;
  skip_list: number[];
}

export interface ModelInfo {
  name: string;
  task: "embedding" | "late-interaction" | "cross-encoder";
  /** Null for a static model, whose encoder computes the answer. */
  head: GraphFiles | null;
  output: string;
  precision: string;
  max_length: number;
  max_characters: number | null;
  dimension: number | null;
  pools_prompt: boolean;
  normalized: boolean;
  prompts: Record<string, string>;
  default_prompt_name: string | null;
  matryoshka_dimensions: number[] | null;
  matryoshka_centred: boolean;
  interaction: Interaction | null;
  pair_template: string | null;
  default_instruction: string | null;
  space_id: string | null;
}

export interface Manifest {
  name: string;
  files: Record<string, FileInfo>;
  tokenizer: string;
  encoder: GraphFiles;
  models: ModelInfo[];
  /** Texts with the token ids that the server's tokenizer has for them. */
  probes: { text: string; ids: number[] }[];
}

const DEFAULTS = {
  max_characters: null,
  dimension: null,
  pools_prompt: true,
  normalized: false,
  prompts: {},
  default_prompt_name: null,
  matryoshka_dimensions: null,
  matryoshka_centred: false,
  interaction: null,
  pair_template: null,
  default_instruction: null,
  space_id: null,
} satisfies Partial<ModelInfo>;

const TASKS: readonly string[] = ["embedding", "late-interaction", "cross-encoder"];

/** Reads the text of a conch.json; raises ManifestError for one that is malformed or of another format. */
export function parseManifest(text: string, url: string): Manifest {
  const refuse = (why: string): never => {
    throw new ManifestError(`${url} ${why}; write it again with \`conch web\` of this release`);
  };
  let stated: Partial<Manifest> & { format?: unknown };
  try {
    stated = JSON.parse(text);
  } catch {
    return refuse("is not JSON");
  }
  if (stated?.format !== FORMAT) {
    return refuse(`has format ${String(stated?.format)}, and this release reads ${FORMAT}`);
  }
  const { name, files, tokenizer, encoder, models, probes = [] } = stated;
  if (!name || !files || !tokenizer || !encoder || !models?.length) return refuse("lacks a part");
  for (const [path, { bytes, sha256 }] of Object.entries(files)) {
    if (!isRelative(path)) refuse(`names a file outside its folder, ${JSON.stringify(path)}`);
    if (!(Number.isSafeInteger(bytes) && bytes >= 0)) refuse(`says no size of ${path}`);
    if (!/^[0-9a-f]{64}$/.test(sha256)) refuse(`says no SHA-256 of ${path}`);
  }
  for (const model of models) {
    if (!TASKS.includes(model.task)) refuse(`has a model of the task ${JSON.stringify(model.task)}`);
    if (!Number.isInteger(model.max_length) || !model.output) refuse("lacks a part of a model");
  }
  const graphs = [encoder, ...models.flatMap((model) => model.head ?? [])];
  for (const path of [tokenizer, ...graphs.flatMap(filesOf)]) {
    if (!(path in files)) refuse(`does not list ${path}`);
  }
  return { name, files, tokenizer, encoder, probes, models: models.map((model) => ({ ...DEFAULTS, ...model })) };
}

/** Paths of a graph and of its files of weights. */
export function filesOf(graph: GraphFiles): string[] {
  return [graph.graph, ...Object.values(graph.data)];
}

function isRelative(path: string): boolean {
  return /^[\w.-]+(\/[\w.-]+)*$/.test(path) && !path.split("/").includes("..");
}
