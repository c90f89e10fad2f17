/** Options of vectors: their dimensions, normalisation, and vector space. */

import { InvalidInputError, SpaceError } from "../errors.js";
import type { ModelInfo } from "../manifest.js";
import { optionalText } from "./inputs.js";

export interface VectorOptions {
  /** Numbers of each vector, for models that were trained to be cut (Matryoshka); all by default. */
  dimensions?: number;
  /** Whether vectors have length 1 (default true). */
  normalize?: boolean;
  /**
   * The space that the caller's other vectors are in; an answer in another one is refused.
   *
   * `~ID`, with which a server may answer by a bridge into ID, is ID here.
   */
  expectSpace?: string;
}

/** The vector space of a call's vectors: `ID/256` if they are cut to 256 numbers, `ID/unit` if the call scales them to length 1. */
export function spaceOf(model: ModelInfo, { dimensions, normalize = true }: VectorOptions = {}): string | null {
  if (model.space_id === null) return null;
  const cut = dimensions !== undefined && dimensions !== model.dimension ? `/${dimensions}` : "";
  return model.space_id + cut + (normalize && !model.normalized ? "/unit" : "");
}

/** Raises InvalidInputError for vectors that the model cannot give, SpaceError for those of another space. */
export function checkVectors(model: ModelInfo, options: VectorOptions): void {
  const { dimensions, normalize = true } = options;
  const expected = optionalText(options.expectSpace, "expectSpace");
  if (dimensions !== undefined && !(Number.isInteger(dimensions) && dimensions >= 1)) {
    throw new InvalidInputError(`dimensions must be an integer of at least 1, not ${dimensions}`);
  }
  const space = spaceOf(model, options);
  if (expected !== undefined && expected.replace(/^~/, "") !== space) {
    const actual = space ? `answers in the vector space '${space}'` : "states no vector space";
    throw new SpaceError(
      `expectSpace is '${expected}', and ${model.name} ${actual}; vectors of different spaces cannot be compared: ` +
        "load the model that made yours, or embed your texts again",
    );
  }
  if (model.normalized && !normalize) {
    throw new InvalidInputError(
      `${model.name} is served with normalisation built in; for raw vectors export it with --no-normalize`,
    );
  }
  if (dimensions === undefined || dimensions === model.dimension) return;
  if (dimensions > (model.dimension ?? 0)) {
    throw new InvalidInputError(`dimensions must be at most ${model.dimension} for ${model.name}`);
  }
  if (!model.matryoshka_dimensions) {
    throw new InvalidInputError(
      `the model was not trained for shorter vectors (Matryoshka); leave dimensions out, or ask for ${model.dimension}`,
    );
  }
}

/** Applies the options to a vector. */
export function shaped(
  vector: Float32Array,
  model: ModelInfo,
  { dimensions, normalize = true }: VectorOptions,
): Float32Array {
  const isCut = dimensions !== undefined && dimensions < vector.length;
  let found = vector;
  if (isCut && model.matryoshka_centred) {
    const mean = vector.reduce((sum, number) => sum + number, 0) / vector.length;
    found = found.map((number) => number - mean);
  }
  if (isCut) found = found.slice(0, dimensions);
  return (isCut && model.normalized) || (normalize && !model.normalized) ? unit(found) : found;
}

function unit(vector: Float32Array): Float32Array {
  const length = Math.max(Math.hypot(...vector), Number.MIN_VALUE);
  return vector.map((number) => number / length);
}
