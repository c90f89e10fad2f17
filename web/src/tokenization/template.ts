/** The special tokens that a tokenizer adds: around a text, and around and between the texts of a pair. */

import { ManifestError } from "../errors.js";

/** Token ids, and for each the number of the text it belongs to, as the model's `token_type_ids`. */
export interface Joined {
  ids: number[];
  types: number[];
}

interface Processed {
  tokens: string[];
  token_type_ids?: number[];
}

/** Adds special tokens: `post_process` of a tokenizer's post-processor. */
export type PostProcess = (first: string[], second: string[] | null) => Processed;

type Piece = { type: number } & ({ id: number } | { text: 0 | 1 });

// Placeholders that are in no vocabulary, to find where the post-processor puts its inputs.
const MARKS = ["\uE000first", "\uE000second"];

export class Template {
  readonly #single: Piece[];
  readonly #pair: Piece[] | undefined;

  constructor(postProcess: PostProcess | null, toId: (token: string) => number | undefined) {
    const pieces = (marks: string[]): Piece[] => {
      const [first = "", second] = marks;
      const { tokens, token_type_ids } = postProcess?.([first], second === undefined ? null : [second]) ?? {
        tokens: marks,
      };
      return tokens.map((token, place) => {
        const type = token_type_ids?.[place] ?? 0;
        const text = MARKS.indexOf(token);
        if (text === 0 || text === 1) return { type, text };
        const id = toId(token);
        if (id === undefined) throw new ManifestError(`the tokenizer adds ${token}, which it has no id for`);
        return { type, id };
      });
    };
    this.#single = pieces(MARKS.slice(0, 1));
    // A post-processor may not support pairs, which is an error only if pairs are needed.
    const pair = pieces(MARKS);
    this.#pair = MARKS.every((_, text) => pair.some((piece) => "text" in piece && piece.text === text))
      ? pair
      : undefined;
  }

  /** How many tokens are added to a text, or to the two of a pair. */
  added(pair: boolean): number {
    return this.#pieces(pair).filter((piece) => "id" in piece).length;
  }

  /** Whether the last token of a text is an added one. */
  get endsInAdded(): boolean {
    const last = this.#single.at(-1);
    return last !== undefined && "id" in last;
  }

  /** The ids of one text, or of a pair, with special tokens. */
  join(first: number[], second?: number[]): Joined {
    const texts = [first, second ?? []];
    const joined: Joined = { ids: [], types: [] };
    for (const piece of this.#pieces(second !== undefined)) {
      const ids = "id" in piece ? [piece.id] : (texts[piece.text] as number[]);
      for (const id of ids) {
        joined.ids.push(id);
        joined.types.push(piece.type);
      }
    }
    return joined;
  }

  #pieces(pair: boolean): Piece[] {
    if (!pair) return this.#single;
    if (!this.#pair)
      throw new ManifestError("the tokenizer does not support pairs of texts, which this reranker needs");
    return this.#pair;
  }
}
