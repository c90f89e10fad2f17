/** Converts texts to token ids like the Python client: special tokens survive truncation. */

import { Tokenizer } from "@huggingface/tokenizers";
import { InvalidInputError, TokenizerError } from "../errors.js";
import { bertNormalizer, bertWords } from "./bert.js";
import { type Joined, Template } from "./template.js";
import { cut, longestFirst, type Truncate } from "./truncation.js";

export interface Limits {
  maxLength: number;
  truncate: Truncate;
  /** What the text, or the query of a pair, begins with and keeps where its start is cut. */
  prompt?: string;
}

export class TextTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #template: Template;

  /** Raises TokenizerError for a tokenizer.json that the library cannot read. */
  constructor(content: string) {
    try {
      const stated = JSON.parse(content);
      this.#tokenizer = new Tokenizer(stated, {});
      if (stated.normalizer?.type === "BertNormalizer") {
        this.#tokenizer.normalizer = bertNormalizer(stated.normalizer) as never;
      }
      if (stated.pre_tokenizer?.type === "BertPreTokenizer") this.#tokenizer.pre_tokenizer = bertWords as never;
    } catch (error) {
      throw new TokenizerError(`the model's tokenizer cannot be read here (${error}); embed on the server instead`);
    }
    const processor = this.#tokenizer.post_processor;
    this.#template = new Template(
      processor && ((first, second) => processor.post_process(first, second, true)),
      (token) => this.#tokenizer.token_to_id(token),
    );
  }

  /** Raises TokenizerError if a text has other tokens here than on the server. */
  check(probes: readonly { text: string; ids: number[] }[]): void {
    for (const { text, ids } of probes) {
      const found = this.#template.join(this.#bare(text)).ids;
      if (found.join() !== ids.join()) {
        throw new TokenizerError(
          `the model's tokenizer gives other tokens in the browser than on the server, as for ${JSON.stringify(text)} ` +
            `(${found.join(" ")} for ${ids.join(" ")}); embed on the server, or take a model with BERT's tokenizer`,
        );
      }
    }
  }

  /** The ids of a text with special tokens, at most `maxLength` of them. */
  encode(text: string, { maxLength, truncate, prompt }: Limits, name: string, index: number): number[] {
    const bare = this.#bare(text);
    const room = Math.max(0, maxLength - this.#template.added(false));
    if (bare.length > room && truncate === "none") {
      throw tooLong(name, index, bare.length + maxLength - room, maxLength);
    }
    const { ids } = this.#template.join(this.#shortened(bare, room, truncate, prompt));
    if (!ids.length)
      throw new InvalidInputError(`${name} has no token that the model could read; leave it out`, [index]);
    return ids;
  }

  /** Number of tokens at the beginning of a row that belong to its prompt, including leading special tokens. */
  promptLength(prompt: string, maxLength: number): number {
    const bare = cut(this.#bare(prompt), Math.max(0, maxLength - this.#template.added(false)), "end");
    const length = this.#template.join(bare).ids.length;
    return length - (length && this.#template.endsInAdded ? 1 : 0);
  }

  /** The ids and types of a query with each of the documents; pairs that are too long are cut as `longestFirst` says. */
  encodePairs(query: string, documents: readonly string[], { maxLength, truncate, prompt }: Limits): Joined[] {
    const room = Math.max(0, maxLength - this.#template.added(true));
    const bareQuery = this.#bare(query);
    return documents.map((text, index) => {
      const document = this.#bare(text);
      const total = bareQuery.length + document.length;
      const [queryKept, documentKept] = longestFirst(bareQuery.length, document.length, room);
      if (queryKept + documentKept < total && truncate === "none") {
        throw tooLong(`documents[${index}] and the query`, index, total + maxLength - room, maxLength);
      }
      const queryRead = this.#shortened(bareQuery, queryKept, truncate, prompt);
      return this.#template.join(queryRead, cut(document, documentKept, truncate));
    });
  }

  /** The ids of texts that are tokenised separately, with special tokens, and concatenated. */
  encodePieces(pieces: readonly string[]): number[] {
    return pieces.flatMap((piece) => this.#template.join(this.#bare(piece)).ids);
  }

  /** The `length` ids that are kept of a text that begins with a prompt, as if what is cut was not there. */
  #shortened(bare: number[], length: number, truncate: Truncate, prompt = ""): number[] {
    if (bare.length <= length || truncate !== "start" || !prompt) return cut(bare, length, truncate);
    const head = this.#bare(prompt);
    if (head.length >= length) throw noRoom(`takes ${length} tokens`);
    return [...head, ...cut(bare, length - head.length, truncate)];
  }

  #bare(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }
}

/** A prompt that would have to be cut, where the start of its text is. */
export function noRoom(most: string): InvalidInputError {
  const fix = "shorten the prompt, or pass truncate: 'end'";
  return new InvalidInputError(`the prompt leaves no room for the text: the model ${most} of both; ${fix}`);
}

export function tooLong(
  name: string,
  index: number,
  length: number,
  maxLength: number,
  fix = "shorten it, or pass truncate: 'end' or 'start'",
): InvalidInputError {
  return new InvalidInputError(`${name} has ${length} tokens and the model takes ${maxLength}; ${fix}`, [index]);
}
