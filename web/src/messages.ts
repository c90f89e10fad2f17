/** Messages between a page and its worker. */

import type { EmbedOptions, TokenOptions } from "./engine/embed.js";
import type { Description, OpenOptions } from "./engine/model.js";
import type { Ranked, RerankOptions } from "./engine/rerank.js";
import type { WireError } from "./errors.js";
import type { Progress } from "./files.js";

/** Methods of the worker: their arguments and results. */
export interface Methods {
  open(url: string, options: OpenOptions): Promise<Description>;
  embed(texts: unknown, options: EmbedOptions): Promise<Float32Array[]>;
  rerank(query: unknown, documents: unknown, options: RerankOptions): Promise<Ranked[]>;
  tokenize(texts: unknown, options: TokenOptions): Promise<number[][]>;
}

export interface Request {
  id: number;
  method: keyof Methods;
  args: unknown[];
}

export type Reply = { progress: Progress } | { id: number; result: unknown } | { id: number; error: WireError };
