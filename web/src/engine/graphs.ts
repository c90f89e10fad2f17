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

// A graph without nodes, whose output is its input `x`: protobuf of an onnx.ModelProto.
const EMPTY = Uint8Array.from([
  8, 9, 58, 37, 18, 1, 120, 90, 15, 10, 1, 120, 18, 10, 10, 8, 8, 1, 18, 4, 10, 2, 8, 1, 98, 15, 10, 1, 120, 18, 10, 10,
  8, 8, 1, 18, 4, 10, 2, 8, 1, 66, 4, 10, 0, 16, 21,
]);

/**
 * Starts onnxruntime with the files in a folder. Call it once, before a graph is opened.
 *
 * onnxruntime has no call for that and starts with the first graph, so this one is empty: compiling WebAssembly need not
 * wait for the files of a model.
 */
export async function start(folder: URL, threads: number): Promise<void> {
  const file = (name: string) => new URL(`ort-wasm-simd-threaded.${name}`, folder).href;
  ort.env.wasm.wasmPaths = { mjs: file("mjs"), wasm: file("wasm") };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  await opened({ graph: EMPTY, data: {} });
}

// Graphs are optimised as they are written. What onnxruntime would do besides makes runs 4 to 9 % faster, and every load
// some tenths of a second slower, as its code has to be compiled too: as much as a hundred texts.
const OPTIONS = { executionProviders: ["wasm"], graphOptimizationLevel: "disabled" } as const;

let lastOpened: Promise<unknown> = Promise.resolve();

/** The session of a graph. */
function opened({ graph, data }: GraphBytes): Promise<ort.InferenceSession> {
  const externalData = Object.entries(data).map(([path, bytes]) => ({ path, data: bytes }));
  const options = { ...OPTIONS, externalData };
  const open = () => ort.InferenceSession.create(graph, options);
  // One after another: when onnxruntime has opened a graph, it forgets the files of weights of all others.
  const session = lastOpened.then(open);
  lastOpened = session.catch(() => undefined);
  return session;
}

class Graph {
  protected constructor(protected readonly session: ort.InferenceSession) {}

  protected async run(feeds: Record<string, TensorData>, output: string): Promise<Matrix> {
    const tensors = Object.entries(feeds).map(([name, { type, data, dims }]) => [
      name,
      new ort.Tensor(type, data, dims),
    ]);
    const found = (await this.session.run(Object.fromEntries(tensors), [output]))[output];
    if (!found || !(found.data instanceof Float32Array)) throw new EngineError(`a graph has not answered ${output}`);
    return { data: found.data, width: found.dims[1] ?? 1 };
  }
}

/** Computes token embeddings from token ids; for a static model, vectors. */
export class Encoder extends Graph {
  static async open(bytes: GraphBytes): Promise<Encoder> {
    return new Encoder(await opened(bytes));
  }

  /** One row of the answer for each token of the rows, in their order. */
  async encode(rows: readonly Row[]): Promise<Matrix> {
    return this.run(encoderFeeds(rows, this.session.inputNames), this.session.outputNames[0] ?? "");
  }
}

/** Computes a vector or a score for each row from token embeddings. */
export class Head extends Graph {
  static async open(bytes: GraphBytes): Promise<Head> {
    return new Head(await opened(bytes));
  }

  async apply(rows: readonly Row[], tokens: Matrix, output: string): Promise<Matrix> {
    return this.run(headFeeds(rows, tokens.data, tokens.width, this.session.inputNames), output);
  }
}
