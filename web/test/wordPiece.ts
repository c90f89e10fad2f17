/** A tokenizer.json of BERT's kind with a few words. */
const WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "query", ":", "doc", "##s"];

export const ids = Object.fromEntries(WORDS.map((word, id) => [word, id])) as Record<string, number>;

export const tokenizerJson = JSON.stringify({
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })),
  normalizer: {
    type: "BertNormalizer",
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "TemplateProcessing",
    single: [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)],
    pair: [special("[CLS]", 0), text("A", 0), special("[SEP]", 0), text("B", 1), special("[SEP]", 1)],
    special_tokens: {},
  },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab: ids,
  },
});

function special(id: string, type_id: number) {
  return { SpecialToken: { id, type_id } };
}

function text(id: string, type_id: number) {
  return { Sequence: { id, type_id } };
}
