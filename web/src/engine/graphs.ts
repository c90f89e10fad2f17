/** Runs graphs with onnxruntime-web, in its smallest build (WebAssembly on the CPU). */

import * as ort from "onnxruntime-web/wasm";
import { EngineError } from "../errors.js";
import { encoderFeeds, headFeeds, type Row, type TensorData } from "./feeds.js";

/** The bytes of a graph, and of its files of weights by the names that the graph uses. */
export interface GraphBytes {
  graph: Uint8Array;
  data: Record<string, Uint8Array>;
}

/** Rows of `width` numbers each. */
export interface Matrix {
  data: Float32Array;
  width: number;
}

/** Sets the folder of onnxruntime's files and its number of threads. Call it once, before a graph is opened. */
export function configure(folder: URL, threads: number): void {
  const file = (name: string) => new URL(`ort-wasm-simd-threaded.${name}`, folder).href;
  ort.env.wasm.wasmPaths = { mjs: file("mjs"), wasm: file("wasm") };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
}

let lastOpened: Promise<unknown> = Promise.resolve();

class Graph {
  protected constructor(protected readonly session: ort.InferenceSession) {}

  protected static session({ graph, data }: GraphBytes): Promise<ort.InferenceSession> {
    const externalData = Object.entries(data).map(([path, bytes]) => ({ path, data: bytes }));
    const open = () => ort.InferenceSession.create(graph, { executionProviders: ["wasm"], externalData });
    // One after another: when onnxruntime has opened a graph, it forgets the files of weights of all others.
    const session = lastOpened.then(open);
    lastOpened = session.catch(() => undefined);
    return session;
  }

  protected async run(feeds: Record<string, TensorData>, output: string): Promise<Matrix> {
    const tensors = Object.entries(feeds).map(([name, { type, data, dims }]) => [
      name,
      new ort.Tensor(type, data, dims),
    ]);
    const found = (await this.session.run(Object.fromEntries(tensors), [output]))[output];
    if (!found || !(found.data instanceof Float32Array)) throw new EngineError(`a graph has not answered ${output}`);
    return { data: found.data, width: found.dims[1] ?? 1 };
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}

/** Computes token embeddings from token ids; for a static model, vectors. */
export class Encoder extends Graph {
  static async open(bytes: GraphBytes): Promise<Encoder> {
    return new Encoder(await Graph.session(bytes));
  }

  /** One row of the answer for each token of the rows, in their order. */
  async encode(rows: readonly Row[]): Promise<Matrix> {
    return this.run(encoderFeeds(rows, this.session.inputNames), this.session.outputNames[0] ?? "");
  }
}

/** Computes a vector or a score for each row from token embeddings. */
export class Head extends Graph {
  static async open(bytes: GraphBytes): Promise<Head> {
    return new Head(await Graph.session(bytes));
  }

  async apply(rows: readonly Row[], tokens: Matrix, output: string): Promise<Matrix> {
    return this.run(headFeeds(rows, tokens.data, tokens.width, this.session.inputNames), output);
  }
}
