/** Checks arguments once, so that all later code gets texts that can be encoded. */

import { InvalidInputError } from "../errors.js";
import type { Truncate } from "../tokenization/truncation.js";

const LONE_SURROGATE = /\p{Cs}/u;
const TRUNCATIONS: readonly unknown[] = ["end", "start", "none"];

/** Returns the texts, if there is at least one and all can be encoded. */
export function checkTexts(texts: unknown, name: string): string[] {
  if (!Array.isArray(texts)) throw new InvalidInputError(`${name} must be a list of texts`);
  if (!texts.length) throw new InvalidInputError(`${name} is empty; give at least one`);
  return texts.map((text, index) => checkText(text, `${name}[${index}]`, [index]));
}

export function checkText(text: unknown, name: string, indices: number[] = []): string {
  if (typeof text !== "string") throw new InvalidInputError(`${name} must be a text, not ${typeof text}`, indices);
  const place = text.search(LONE_SURROGATE);
  if (place >= 0) {
    throw new InvalidInputError(
      `${name} has a lone surrogate at character ${place}; clean it, for example with text.toWellFormed()`,
      indices,
    );
  }
  return text;
}

/** An option that is a text; undefined where it is not given, or null. */
export function optionalText(text: unknown, name: string): string | undefined {
  return text === undefined || text === null ? undefined : checkText(text, name);
}

export function checkTruncate(truncate: unknown = "end"): Truncate {
  if (!TRUNCATIONS.includes(truncate)) {
    throw new InvalidInputError(`truncate must be 'end', 'start' or 'none', not ${JSON.stringify(truncate)}`);
  }
  return truncate as Truncate;
}
