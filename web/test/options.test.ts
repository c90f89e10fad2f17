import { describe, expect, it } from "vitest";
import { type Loaded, promptText } from "../src/engine/embed.js";
import { type RerankOptions, rerank } from "../src/engine/rerank.js";
import { InvalidInputError } from "../src/errors.js";
import type { ModelInfo } from "../src/manifest.js";
import { TextTokenizer } from "../src/tokenization/tokenizer.js";
import { tokenizerJson } from "./wordPiece.js";

const NO_TEXTS = [
  ["a number", 5],
  ["a lone surrogate", "a \ud83d b"],
] as const;

describe("a prompt", () => {
  const info = { name: "m", prompts: { query: "query: " }, default_prompt_name: "query" } as unknown as ModelInfo;
  const prompt = (options: object) => promptText(info, options);

  it("is not given where it is null", () => {
    expect(prompt({ prompt: null })).toBe("query: ");
    expect(prompt({ prompt: "a: ", promptName: null })).toBe("a: ");
    expect(prompt({ prompt: "" })).toBe("");
  });

  it.each(NO_TEXTS)("that is %s is refused", (_, given) => {
    expect(() => prompt({ prompt: given })).toThrow(InvalidInputError);
  });
});

describe("a pair within its authors' words", () => {
  const info = {
    name: "m",
    task: "cross-encoder",
    max_length: 6,
    pair_template: "{instruction} {query} {document}",
    default_instruction: "a",
  } as ModelInfo;
  const encoder = { encode: async () => ({ data: Float32Array.of(0), width: 1 }) };
  const model = { info, tokenizer: new TextTokenizer(tokenizerJson), encoder, head: null } as unknown as Loaded;
  const rank = (document: string, options: object = {}) => rerank(model, "b", [document], options as RerankOptions);

  it("has an instruction that is a text", async () => {
    expect(await rank("c", { instruction: null })).toEqual([{ index: 0, score: 0.5 }]);
    for (const [, given] of NO_TEXTS) {
      await expect(rank("c", { instruction: given })).rejects.toThrow(InvalidInputError);
    }
  });

  it("is refused where it is too long, with what helps", async () => {
    await expect(rank("c d a b")).rejects.toThrow(/documents\[0\] with its query has 8 tokens.*rank on the server/);
    await expect(rank("c", { truncate: "middle" })).rejects.toThrow(/truncate must be/);
  });
});
