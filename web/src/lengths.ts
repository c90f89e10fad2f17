/** Named lengths, in tokens; the same as those of `conch export --max-length`. */

import { InvalidInputError } from "./errors.js";

export const LENGTHS = { short: 1024, medium: 2048, long: 4096, maximum: 8192 } as const;

export type MaxLength = number | keyof typeof LENGTHS;

/** Most tokens of a text: the wanted number, limited to that of the model. */
export function lengthFor(wanted: MaxLength | undefined, longest: number): number {
  if (wanted === undefined) return longest;
  const tokens = typeof wanted === "string" ? LENGTHS[wanted] : wanted;
  if (!Number.isInteger(tokens) || tokens < 3) {
    const names = Object.keys(LENGTHS).join(", ");
    throw new InvalidInputError(`maxLength must be a whole number of at least 3, or one of ${names}; not ${wanted}`);
  }
  return Math.min(tokens, longest);
}
