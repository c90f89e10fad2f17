import { describe, expect, it } from "vitest";
import { batches, MOST_TOKENS } from "../src/engine/batches.js";
import { encoderFeeds, headFeeds, type Row } from "../src/engine/feeds.js";
import { ManifestError } from "../src/errors.js";

const rows: Row[] = [
  { ids: [101, 5, 102], masked: 1, prompt: 0 },
  { ids: [101, 6, 7, 102], types: [0, 0, 1, 1], masked: 0, prompt: 2 },
];

describe("a run's tensors", () => {
  it("hold the rows one after the other, with their lengths beside them", () => {
    const feeds = encoderFeeds(rows, ["input_ids", "attention_mask", "token_type_ids", "row_lengths"]);

    expect(Array.from(feeds.input_ids?.data ?? [], Number)).toEqual([101, 5, 102, 101, 6, 7, 102]);
    expect(Array.from(feeds.attention_mask?.data ?? [], Number)).toEqual([1, 1, 2, 3, 3, 1, 1]);
    expect(Array.from(feeds.token_type_ids?.data ?? [], Number)).toEqual([0, 0, 0, 0, 0, 1, 1]);
    expect(feeds.row_lengths).toEqual({ type: "int32", data: Int32Array.of(3, 4), dims: [2] });
  });

  it("say of a head's vectors how long and how wide each row is", () => {
    const feeds = headFeeds(rows, new Float32Array(14), 2, ["token_embeddings_lengths", "request_elements"]);

    expect(feeds.token_embeddings_lengths?.data).toEqual(Int32Array.of(3, 2, 4, 2));
    expect(feeds.request_elements?.data).toEqual(Int32Array.of(7));
  });

  it("are no guesses: an unknown input is refused", () => {
    expect(() => encoderFeeds(rows, ["pixel_values"])).toThrow(ManifestError);
  });
});

describe("runs", () => {
  it("hold every row once, in order, and no more tokens than their bound", () => {
    const lengths = [MOST_TOKENS - 2, 1, 1, 3, 2 * MOST_TOKENS, 1];

    expect(batches(lengths)).toEqual([[0, 1, 2], [3], [4], [5]]);
  });

  it("leave room for the query that leads each", () => {
    expect(batches([600, 300, 300], 200)).toEqual([[0], [1, 2]]);
  });
});
