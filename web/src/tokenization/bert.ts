/**
 * BERT's normalisation and splitting of texts into words, with the results of the library `tokenizers` for every character.
 *
 * `@huggingface/tokenizers` differs in three ways that change tokens: it lower-cases whole texts (a final "Σ" becomes
 * "ς" and not "σ"), it splits no Chinese characters beyond the basic plane, and it uses the browser's Unicode, where the
 * library uses the categories of Unicode 8.
 */

interface BertSettings {
  clean_text?: boolean;
  handle_chinese_chars?: boolean;
  strip_accents?: boolean | null;
  lowercase?: boolean;
}

/**
 * Characters that became marks (Mn), punctuation (P) or format controls (Cf) after Unicode 8, including characters
 * between them that are none of these. Found by comparing both libraries on every code point of Unicode 17.
 */
const LATER = new RegExp(
  "[" +
    "\\u061D\\u07FD\\u0890-\\u08E2\\u09FD\\u09FE\\u0A76\\u0AFA-\\u0AFF\\u0B55\\u0C04-\\u0C3C\\u0C77\\u0C84\\u0D00\\u0D3B" +
    "\\u0D3C\\u0D81\\u0EBA\\u0ECE\\u180F-\\u1886\\u1ABF-\\u1AEB\\u1B4E\\u1B4F\\u1B7D-\\u1B7F\\u1DF6-\\u1DFB" +
    "\\u2E43-\\u2E5D\\uA82C\\uA8C5\\uA8FF\\uA9BD\\u{10D24}-\\u{10F89}\\u{11070}-\\u{11074}\\u{110C2}-\\u{110CD}" +
    "\\u{111C9}\\u{111CF}\\u{1123E}-\\u{11241}\\u{1133B}\\u{113BB}-\\u{1145E}\\u{11660}-\\u{1166C}\\u{116B9}" +
    "\\u{1182F}-\\u{11FFF}\\u{12FF1}-\\u{1612F}\\u{16D6D}-\\u{16F4F}\\u{16FE2}-\\u{16FE4}\\u{1CF00}-\\u{1CF46}" +
    "\\u{1E000}-\\u{1E6F5}\\u{1E944}-\\u{1E95F}" +
    "]",
  "u",
);
/** What was a mark, or punctuation, in Unicode 8, and no longer is. */
const FORMER_MARK = /[\u1734\u{1171E}]/u;
const FORMER_PUNCTUATION = /[\u166D\u{111C9}]/u;

const CONTROL = /[\p{Cc}\p{Cf}\p{Co}]/u;
const MARK = /\p{Mn}/u;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/u;
const SPACE = /\s/u;

/** The normaliser with these settings, those of `BertNormalizer` in a tokenizer.json. */
export function bertNormalizer(settings: BertSettings): (text: string) => string {
  const lowercase = settings.lowercase ?? false;
  const stripAccents = settings.strip_accents ?? lowercase;
  return (text) => {
    let normal = text;
    if (settings.clean_text) normal = cleaned(normal);
    if (settings.handle_chinese_chars) normal = map(normal, (char) => (isChinese(char) ? ` ${char} ` : char));
    if (stripAccents) normal = map(normal.normalize("NFD"), (char) => (isMark(char) ? "" : char));
    // Each character by itself, as the library does: a text as a whole would end words in "ς".
    return lowercase ? map(normal, (char) => char.toLowerCase()) : normal;
  };
}

/** Words and single punctuation characters of a text, as `BertPreTokenizer` splits it. */
export function bertWords(text: string): string[] {
  const words: string[] = [];
  let word = "";
  const end = () => {
    if (word) words.push(word);
    word = "";
  };
  for (const char of text) {
    if (SPACE.test(char)) end();
    else if (isPunctuation(char)) {
      end();
      words.push(char);
    } else word += char;
  }
  end();
  return words;
}

function cleaned(text: string): string {
  return map(text, (char) => {
    if (char === "\t" || char === "\n" || char === "\r") return " ";
    if (char === "\0" || char === "\uFFFD" || (CONTROL.test(char) && !LATER.test(char))) return "";
    return SPACE.test(char) ? " " : char;
  });
}

function isMark(char: string): boolean {
  return (MARK.test(char) && !LATER.test(char)) || FORMER_MARK.test(char);
}

function isPunctuation(char: string): boolean {
  return (PUNCTUATION.test(char) && !LATER.test(char)) || FORMER_PUNCTUATION.test(char);
}

function isChinese(char: string): boolean {
  const code = char.codePointAt(0) as number;
  return (
    (code >= 0x4e00 && code <= 0x9fff) ||
    (code >= 0x3400 && code <= 0x4dbf) ||
    (code >= 0x20000 && code <= 0x2a6df) ||
    (code >= 0x2a700 && code <= 0x2b73f) ||
    (code >= 0x2b740 && code <= 0x2b81f) ||
    (code >= 0x2b920 && code <= 0x2ceaf) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0x2f800 && code <= 0x2fa1f)
  );
}

function map(text: string, change: (char: string) => string): string {
  let changed = "";
  for (const char of text) changed += change(char);
  return changed;
}
