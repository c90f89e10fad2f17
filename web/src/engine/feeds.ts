/**
 * The tensors of a run: rows of tokens of any lengths, concatenated without padding.
 *
 * With each tensor, a graph gets the lengths of the rows, as from Triton; see `conch_export.onnx.layout`.
 */

import { ManifestError } from "../errors.js";

/** The tokens of one text, or of a pair. */
export interface Row {
  ids: number[];
  /** Segment of every token; all 0 where it is left out. */
  types?: number[];
  /** Number of tokens at its end that no other token attends to. */
  masked: number;
  /** Number of tokens at its beginning that are read and not pooled. */
  prompt: number;
}

export type TensorData =
  | { type: "int64"; data: BigInt64Array; dims: [number] }
  | { type: "int32"; data: Int32Array; dims: [number] }
  | { type: "float32"; data: Float32Array; dims: [number] };

/** Tensors for the inputs of an encoder. */
export function encoderFeeds(rows: readonly Row[], inputs: readonly string[]): Record<string, TensorData> {
  return chosen(inputs, tokenTensors(rows));
}

/** Tensors for the inputs of a head: the rows of one request, and their token embeddings. */
export function headFeeds(
  rows: readonly Row[],
  embeddings: Float32Array,
  hidden: number,
  inputs: readonly string[],
): Record<string, TensorData> {
  const tokens = rows.reduce((sum, row) => sum + row.ids.length, 0);
  return chosen(inputs, {
    ...tokenTensors(rows),
    token_embeddings: () => ({ type: "float32", data: embeddings, dims: [embeddings.length] }),
    token_embeddings_lengths: () => int32(rows.flatMap((row) => [row.ids.length, hidden])),
    request_elements: () => int32([tokens]),
  });
}

type Made = Record<string, () => TensorData>;

function tokenTensors(rows: readonly Row[]): Made {
  const lengths = () => int32(rows.map((row) => row.ids.length));
  return {
    input_ids: () => int64(rows, (row) => row.ids),
    attention_mask: () => int64(rows, maskOf),
    token_type_ids: () => int64(rows, (row) => row.types ?? row.ids.map(() => 0)),
    row_lengths: lengths,
    input_ids_lengths: lengths,
    attention_mask_lengths: lengths,
    token_type_ids_lengths: lengths,
  };
}

/** 1 for a token, 2 for one that no other attends to, 3 for one of a prompt that is not pooled. */
function maskOf(row: Row): number[] {
  const maskedFrom = row.ids.length - row.masked;
  return row.ids.map((_, place) => (place < row.prompt ? 3 : place < maskedFrom ? 1 : 2));
}

function chosen(inputs: readonly string[], made: Made): Record<string, TensorData> {
  return Object.fromEntries(
    inputs.map((name) => {
      const make = made[name];
      if (!make) throw new ManifestError(`a graph takes ${name}, which this release does not know; update conch-web`);
      return [name, make()];
    }),
  );
}

function int64(rows: readonly Row[], numbersOf: (row: Row) => number[]): TensorData {
  const data = BigInt64Array.from(rows.flatMap(numbersOf), BigInt);
  return { type: "int64", data, dims: [data.length] };
}

function int32(numbers: number[]): TensorData {
  return { type: "int32", data: Int32Array.from(numbers), dims: [numbers.length] };
}
