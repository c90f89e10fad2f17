import { describe, expect, it } from "vitest";
import type { Interaction } from "../src/manifest.js";
import { markedRow, maskedAtEnd, roomFor } from "../src/tokenization/interaction.js";

const rules: Interaction = {
  query_marker: 1,
  document_marker: 2,
  query_length: 8,
  document_length: 16,
  augmentation: 103,
  attends_to_augmentation: false,
  skip_list: [5],
};

describe("late interaction", () => {
  it("marks queries and documents after their first token, and fills queries up", () => {
    expect(markedRow(rules, [101, 7, 102], true)).toEqual([101, 1, 7, 102, 103, 103, 103, 103]);
    expect(markedRow(rules, [101, 7, 102], false)).toEqual([101, 2, 7, 102]);
  });

  it("leaves room for the marker", () => {
    expect([roomFor(rules, true), roomFor(rules, false)]).toEqual([7, 15]);
    expect(roomFor({ ...rules, document_marker: null }, false)).toBe(16);
  });

  it("knows which tokens no other attends to", () => {
    expect(maskedAtEnd(rules, [101, 103, 102, 103, 103])).toBe(2);
    expect(maskedAtEnd({ ...rules, attends_to_augmentation: true }, [101, 103])).toBe(0);
    expect(maskedAtEnd({ ...rules, augmentation: null }, [101, 103])).toBe(0);
  });
});
