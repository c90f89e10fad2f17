/** Truncation of texts that are too long. */

/** The end of a text that loses tokens; "none" refuses a text that is too long instead. */
export type Truncate = "end" | "start" | "none";

/** At most `length` of the ids, from the end that is kept. */
export function cut(ids: number[], length: number, truncate: Truncate): number[] {
  if (ids.length <= length) return ids;
  return truncate === "start" ? ids.slice(ids.length - length) : ids.slice(0, length);
}

/**
 * Tokens that are kept of a query and a document, at most `room` together; `conch_contract.longest_first`.
 *
 * The longer of the two loses tokens until both are equally long, then both do. Of an odd room the longer one gets the
 * odd token, and of two that are equally long the document.
 */
export function longestFirst(query: number, document: number, room: number): [number, number] {
  if (query + document <= room) return [query, document];
  const shorter = Math.min(query, document, Math.floor(room / 2));
  return query <= document ? [shorter, room - shorter] : [room - shorter, shorter];
}
