/** Converts texts to token rows, and computes their vectors. */

import { EngineError, InvalidInputError } from "../errors.js";
import type { ModelInfo } from "../manifest.js";
import { markedRow, maskedAtEnd, roomFor } from "../tokenization/interaction.js";
import { type Limits, noRoom, type TextTokenizer } from "../tokenization/tokenizer.js";
import type { Truncate } from "../tokenization/truncation.js";
import { batches } from "./batches.js";
import type { Row } from "./feeds.js";
import type { Encoder, Head, Matrix } from "./graphs.js";
import { checkTruncate, optionalText } from "./inputs.js";
import { checkVectors, shaped, type VectorOptions } from "./vectors.js";

export interface TokenOptions {
  /** A text to put before each input; "" for none, even where the model has a default. */
  prompt?: string;
  /** One of the model's prompts, by name; with neither, its default applies. */
  promptName?: string;
  /** Which end of a text that is too long loses tokens: "end" (default), "start", or "none", which refuses it. */
  truncate?: Truncate;
}

export type EmbedOptions = TokenOptions & VectorOptions;

/** The parts of a model that compute texts. */
export interface Loaded {
  info: ModelInfo;
  tokenizer: TextTokenizer;
  encoder: Encoder;
  /** Opens the head, where that has not been done. */
  head: (() => Promise<Head>) | null;
}

/** One vector for each text. */
export async function embed(model: Loaded, texts: readonly string[], options: EmbedOptions): Promise<Float32Array[]> {
  checkVectors(model.info, options);
  const rows = pooledRows(model, texts, options);
  const vectors: Float32Array[] = [];
  for (const run of batches(rows.map((row) => row.ids.length))) {
    const { data, width } = await answer(
      model,
      run.map((row) => rows[row] as Row),
    );
    run.forEach((row, place) => {
      const vector = data.slice(place * width, (place + 1) * width);
      if (vector.some(Number.isNaN)) throw notComputed("texts", row);
      vectors.push(shaped(vector, model.info, options));
    });
  }
  return vectors;
}

/** The output of the head for the rows of one request; for a static model, that of the encoder. */
export async function answer({ info, encoder, head }: Loaded, rows: readonly Row[]): Promise<Matrix> {
  const tokens = await encoder.encode(rows);
  return head ? (await head()).apply(rows, tokens, info.output) : tokens;
}

/** Token rows of texts with their prompt. */
export function rowsOf({ info, tokenizer }: Loaded, texts: readonly string[], options: TokenOptions): Row[] {
  const prompt = promptText(info, options);
  const truncate = checkTruncate(options.truncate);
  const named = (index: number) => `texts[${index}]`;
  if (info.interaction) {
    const isQuery = options.promptName === "query";
    return texts.map((text, index) =>
      markedRowOf(info, tokenizer, prompt + text, isQuery, { truncate, prompt }, named(index), index),
    );
  }
  const limits: Limits = { maxLength: info.max_length, truncate, prompt };
  return texts.map((text, index) => {
    const read = readCharacters(prompt, text, info.max_characters, truncate, named(index), index);
    return { ids: tokenizer.encode(read, limits, named(index), index), masked: 0, prompt: 0 };
  });
}

/** The row of a query or a document for late interaction. */
export function markedRowOf(
  { interaction, max_length: maxLength }: ModelInfo,
  tokenizer: TextTokenizer,
  text: string,
  isQuery: boolean,
  options: Omit<Limits, "maxLength">,
  name: string,
  index: number,
): Row {
  if (!interaction)
    return { ids: tokenizer.encode(text, { maxLength, ...options }, name, index), masked: 0, prompt: 0 };
  const room = roomFor(interaction, isQuery);
  const ids = markedRow(interaction, tokenizer.encode(text, { maxLength: room, ...options }, name, index), isQuery);
  return { ids, masked: maskedAtEnd(interaction, ids), prompt: 0 };
}

export function notComputed(name: string, index: number): EngineError {
  return new EngineError(`the model could not compute ${name}[${index}]; write it again with \`conch web\``);
}

/** The text to put before each input. */
export function promptText(info: ModelInfo, options: TokenOptions): string {
  const prompt = optionalText(options.prompt, "prompt");
  const promptName = optionalText(options.promptName, "promptName");
  if (prompt !== undefined && promptName !== undefined) {
    throw new InvalidInputError("give prompt or promptName, not both");
  }
  const name = promptName ?? info.default_prompt_name;
  if (prompt !== undefined) return prompt;
  if (name === null) return "";
  const found = Object.hasOwn(info.prompts, name) ? info.prompts[name] : undefined;
  if (found === undefined) {
    const known = Object.keys(info.prompts).sort().join(", ") || "none";
    throw new InvalidInputError(
      `${info.name} has no prompt '${name}'; it has: ${known}. Or pass prompt with the text.`,
    );
  }
  return found;
}

/** Token rows, with the number of tokens of a prompt that is not pooled. */
function pooledRows(model: Loaded, texts: readonly string[], options: TokenOptions): Row[] {
  const { info, tokenizer } = model;
  const rows = rowsOf(model, texts, options);
  const prompt = promptText(info, options);
  if (!prompt || info.pools_prompt) return rows;
  const length = tokenizer.promptLength(prompt, info.max_length);
  const shortest = rows.findIndex((row) => row.ids.length <= length);
  if (shortest >= 0) {
    throw new InvalidInputError(`texts[${shortest}] has no token beside its prompt; leave it out`, [shortest]);
  }
  return rows.map((row) => ({ ...row, prompt: length }));
}

/** The characters of a text with its prompt that the model reads: code points, as the server counts them. */
function readCharacters(
  prompt: string,
  text: string,
  most: number | null,
  truncate: Truncate,
  name: string,
  index: number,
): string {
  const whole = prompt + text;
  if (most === null || whole.length <= most) return whole;
  const characters = Array.from(whole);
  if (characters.length <= most) return whole;
  if (truncate === "none") {
    const has = `${name} has ${characters.length} characters and the model reads ${most}`;
    throw new InvalidInputError(`${has}; shorten it`, [index]);
  }
  if (truncate === "end") return characters.slice(0, most).join("");
  const room = most - Array.from(prompt).length;
  if (room <= 0) throw noRoom(`reads ${most} characters`);
  return prompt + characters.slice(-room).join("");
}
