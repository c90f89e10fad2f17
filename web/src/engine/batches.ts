/** Divides rows into runs of a bounded size, so that a long list takes no more memory than one run. */

/** Most tokens of a run; a longer row is a run of its own. */
export const MOST_TOKENS = 1024;

/**
 * Numbers of the rows of each run, in their order.
 *
 * Unlike in requests to a server, rows of a run may differ in length: nothing is padded.
 *
 * @param lengths tokens of each row
 * @param lead tokens of a row with which every run begins (a reranker's query)
 */
export function batches(lengths: readonly number[], lead = 0): number[][] {
  const runs: number[][] = [];
  let tokens = Number.POSITIVE_INFINITY;
  lengths.forEach((length, row) => {
    if (tokens + length > MOST_TOKENS) {
      runs.push([]);
      tokens = lead;
    }
    runs.at(-1)?.push(row);
    tokens += length;
  });
  return runs;
}
