import { describe, expect, it } from "vitest";
import { InvalidInputError, TokenizerError } from "../src/errors.js";
import { framedPieces } from "../src/tokenization/pairTemplate.js";
import { TextTokenizer } from "../src/tokenization/tokenizer.js";
import { longestFirst } from "../src/tokenization/truncation.js";
import { ids, tokenizerJson } from "./wordPiece.js";

const tokenizer = new TextTokenizer(tokenizerJson);
const tokens = (...words: string[]) => words.map((word) => ids[word]);

describe("a text", () => {
  const encode = (text: string, maxLength: number, truncate: "end" | "start" | "none") =>
    tokenizer.encode(text, { maxLength, truncate }, "texts[0]", 0);

  it("gets its special tokens", () => {
    expect(encode("A docs", 8, "end")).toEqual(tokens("[CLS]", "a", "doc", "##s", "[SEP]"));
  });

  it("loses tokens at the end that is named, and no special token", () => {
    expect(encode("a b c d", 4, "end")).toEqual(tokens("[CLS]", "a", "b", "[SEP]"));
    expect(encode("a b c d", 4, "start")).toEqual(tokens("[CLS]", "c", "d", "[SEP]"));
  });

  it("keeps its prompt where its start is cut", () => {
    const limits = { maxLength: 6, truncate: "start", prompt: "query: " } as const;

    expect(tokenizer.encode("query: a b c d", limits, "texts[0]", 0)).toEqual(
      tokens("[CLS]", "query", ":", "c", "d", "[SEP]"),
    );
    expect(() => tokenizer.encode("query: a b", { ...limits, maxLength: 4 }, "texts[0]", 0)).toThrow(/no room/);
  });

  it("is refused where nothing may be cut, with its number", () => {
    expect(() => encode("a b c d", 5, "none")).toThrow(/texts\[0\] has 6 tokens and the model takes 5/);
    expect(encode("a b c", 5, "none")).toHaveLength(5);
  });
});

it("a prompt's tokens are all but the special one at the end", () => {
  expect(tokenizer.promptLength("query: ", 16)).toBe(3);
});

describe("a pair", () => {
  it("has the types that its template says", () => {
    const [pair] = tokenizer.encodePairs("a", ["b c"], { maxLength: 16, truncate: "end" });

    expect(pair).toEqual({ ids: tokens("[CLS]", "a", "[SEP]", "b", "c", "[SEP]"), types: [0, 0, 0, 1, 1, 1] });
  });

  it("loses tokens of the longer text first", () => {
    const [pair] = tokenizer.encodePairs("a b", ["a b c d"], { maxLength: 7, truncate: "end" });

    expect(pair?.ids).toEqual(tokens("[CLS]", "a", "b", "[SEP]", "a", "b", "[SEP]"));
  });

  it.each([
    [3, 3, 6, [3, 3]],
    [3, 5, 6, [3, 3]],
    [5, 3, 7, [4, 3]],
    [5, 5, 7, [3, 4]],
    [9, 1, 4, [3, 1]],
    [4, 4, 0, [0, 0]],
  ])("of %i and %i tokens keeps, of %i, %j", (query, document, room, kept) => {
    expect(longestFirst(query, document, room)).toEqual(kept);
  });

  it("within its authors' words is tokenised in the pieces that the template splits", () => {
    expect(framedPieces("<Q>{query}{split}<D>{document}", "{document}", "d", "")).toEqual(["<Q>{document}", "<D>d"]);
  });
});

describe("a tokenizer that differs from the server's", () => {
  it("is refused with the text that shows it", () => {
    expect(() => tokenizer.check([{ text: "a", ids: tokens("[CLS]", "a", "[SEP]") as number[] }])).not.toThrow();
    expect(() => tokenizer.check([{ text: "a b", ids: [2, 9, 3] }])).toThrow(TokenizerError);
    expect(() => tokenizer.check([{ text: "a b", ids: [2, 9, 3] }])).toThrow(/"a b".*embed on the server/);
  });

  it("is refused if it cannot be read", () => {
    expect(() => new TextTokenizer('{"model": {"type": "Other"}}')).toThrow(TokenizerError);
  });
});

it("what has no token is refused", () => {
  const bare = JSON.parse(tokenizerJson);
  const without = new TextTokenizer(JSON.stringify({ ...bare, post_processor: null }));

  expect(() => without.encode(" ", { maxLength: 8, truncate: "end" }, "texts[3]", 3)).toThrow(InvalidInputError);
});
