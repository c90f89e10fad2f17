/** Ranks documents for a query. */

import { InvalidInputError } from "../errors.js";
import { framedPieces } from "../tokenization/pairTemplate.js";
import { tooLong } from "../tokenization/tokenizer.js";
import type { Truncate } from "../tokenization/truncation.js";
import { batches } from "./batches.js";
import { answer, type Loaded, markedRowOf, notComputed, promptText } from "./embed.js";
import type { Row } from "./feeds.js";
import { checkTruncate, optionalText } from "./inputs.js";

export interface RerankOptions {
  /** How many of the best documents to return; all by default. */
  topN?: number;
  /** Whether a cross-encoder's scores are its logits; by default they are mapped to 0 … 1. */
  rawScores?: boolean;
  truncate?: Truncate;
  /** What to look for, for rerankers that read an instruction. */
  instruction?: string;
}

/** A document's place in a ranking. */
export interface Ranked {
  /** Its number in the list that was given. */
  index: number;
  score: number;
}

/** Documents by descending score; those with equal scores keep their order. */
export async function rerank(
  model: Loaded,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Promise<Ranked[]> {
  const { topN } = options;
  if (topN !== undefined && !(Number.isInteger(topN) && topN >= 1)) {
    throw new InvalidInputError(`topN must be an integer of at least 1, not ${topN}`);
  }
  const isPair = model.info.task === "cross-encoder";
  const scores = await (isPair ? pairScores : interactionScores)(model, query, documents, options);
  const refused = scores.findIndex(Number.isNaN);
  if (refused >= 0) throw notComputed("documents", refused);
  const ranked = scores
    .map((score, index) => ({ index, score }))
    .sort((a, b) => b.score - a.score || a.index - b.index);
  const scored =
    isPair && !options.rawScores ? ranked.map(({ index, score }) => ({ index, score: sigmoid(score) })) : ranked;
  return scored.slice(0, topN);
}

/** MaxSim: row 0 of every run is the query, with which the head compares the other rows. */
async function interactionScores(
  model: Loaded,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Promise<number[]> {
  const { info, tokenizer } = model;
  if (optionalText(options.instruction, "instruction") !== undefined) throw noInstruction(info.name);
  const truncate = checkTruncate(options.truncate);
  const lead = markedRowOf(info, tokenizer, query, true, { truncate }, "query", 0);
  const rows = documents.map((text, index) =>
    markedRowOf(info, tokenizer, text, false, { truncate }, `documents[${index}]`, index),
  );
  const scores: number[] = [];
  for (const run of batches(lengthsOf(rows), lead.ids.length)) {
    const { data } = await answer(model, [lead, ...run.map((row) => rows[row] as Row)]);
    scores.push(...data.subarray(1));
  }
  return scores;
}

/** A cross-encoder reads query and document together. */
async function pairScores(
  model: Loaded,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Promise<number[]> {
  const rows = pairRows(model, query, documents, options);
  const scores: number[] = [];
  for (const run of batches(lengthsOf(rows))) {
    scores.push(
      ...(
        await answer(
          model,
          run.map((row) => rows[row] as Row),
        )
      ).data,
    );
  }
  return scores;
}

function pairRows(
  { info, tokenizer }: Loaded,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Row[] {
  const { pair_template: template, max_length: maxLength } = info;
  const asked = optionalText(options.instruction, "instruction");
  if (asked !== undefined && !template?.includes("{instruction}")) throw noInstruction(info.name);
  const truncate = checkTruncate(options.truncate);
  if (template === null) {
    const prompt = promptText(info, {});
    const limits = { maxLength, truncate, prompt };
    const pairs = tokenizer.encodePairs(prompt + query, documents, limits);
    return pairs.map(({ ids, types }) => ({ ids, types, masked: 0, prompt: 0 }));
  }
  const instruction = asked ?? info.default_instruction ?? "";
  return documents.map((document, index) => {
    const ids = tokenizer.encodePieces(framedPieces(template, query, document, instruction));
    // Refused and not truncated: that would need offsets of tokens in the text, which the tokenizer does not give.
    if (ids.length > maxLength) {
      const fix = "shorten it, or rank on the server, which cuts it";
      throw tooLong(`documents[${index}] with its query`, index, ids.length, maxLength, fix);
    }
    return { ids, masked: 0, prompt: 0 };
  });
}

function lengthsOf(rows: readonly Row[]): number[] {
  return rows.map((row) => row.ids.length);
}

function noInstruction(name: string): InvalidInputError {
  return new InvalidInputError(`instruction: ${name} reads no instruction; leave it out`);
}

function sigmoid(logit: number): number {
  return 0.5 * (1 + Math.tanh(0.5 * logit)); // 1 / (1 + e^-x) without its overflow
}
