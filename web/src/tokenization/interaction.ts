/** Token rows of queries and documents for late interaction; `conch_contract.Interaction`. */

import type { Interaction } from "../manifest.js";

/** Most tokens of a tokenised query or document before `markedRow` adds to it. */
export function roomFor(rules: Interaction, isQuery: boolean): number {
  const marker = isQuery ? rules.query_marker : rules.document_marker;
  return (isQuery ? rules.query_length : rules.document_length) - (marker === null ? 0 : 1);
}

/** The ids that the model reads: with the marker after the first token, and for queries with their augmentation. */
export function markedRow(rules: Interaction, ids: readonly number[], isQuery: boolean): number[] {
  const marker = isQuery ? rules.query_marker : rules.document_marker;
  const row = [...ids.slice(0, 1), ...(marker === null ? [] : [marker]), ...ids.slice(1)];
  if (isQuery && rules.augmentation !== null) {
    while (row.length < rules.query_length) row.push(rules.augmentation);
  }
  return row;
}

/** Number of tokens at the end of a row that no other token attends to. */
export function maskedAtEnd(rules: Interaction, row: readonly number[]): number {
  if (rules.augmentation === null || rules.attends_to_augmentation) return 0;
  let masked = 0;
  while (masked < row.length && row[row.length - 1 - masked] === rules.augmentation) masked++;
  return masked;
}
