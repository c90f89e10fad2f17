import { describe, expect, it } from "vitest";
import { bertNormalizer, bertWords } from "../src/tokenization/bert.js";

const uncased = bertNormalizer({ clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true });

describe("BERT's normaliser, as the library tokenizers has it", () => {
  it.each([
    ["lower-cases each character by itself", "ΟΔΟΣ", "οδοσ"],
    ["takes accents away, composed or not", "É e\u0301 İ", "e e i"],
    ["splits Chinese characters of every plane", "a中\u{20000}b", "a 中  \u{20000} b"],
    ["drops controls and keeps spaces", "a\u0007b\u0000\tc\u00A0d\u200De", "ab c de"],
    ["keeps marks that came after Unicode 8", "a\u{1E944}", "a\u{1E944}"],
  ])("%s", (_, text, normal) => {
    expect(uncased(text)).toBe(normal);
  });

  it("leaves a cased model's text in its case, with its accents", () => {
    const cased = bertNormalizer({
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: false,
    });

    expect(cased("Élan ΟΔΟΣ")).toBe("Élan ΟΔΟΣ");
  });
});

describe("BERT's words", () => {
  it("are split at spaces and around each punctuation character", () => {
    expect(bertWords(" don't $5…a\u3000b ")).toEqual(["don", "'", "t", "$", "5", "…", "a", "b"]);
  });
});
