/** The text that a reranker reads for a query and a document, where its authors wrap both in words of their own. */

const PLACES = /\{(query|document|instruction|split)\}/;

/** The pieces, tokenised each by itself, of a template whose places are filled; braces in the texts mean nothing. */
export function framedPieces(template: string, query: string, document: string, instruction: string): string[] {
  const values: Record<string, string> = { query, document, instruction };
  const pieces = [""];
  template.split(PLACES).forEach((part, index) => {
    if (index % 2 && part === "split") pieces.push("");
    else pieces[pieces.length - 1] += index % 2 ? (values[part] ?? "") : part;
  });
  return pieces;
}
