/** The text that a reranker with a pair template reads for a query and a document. */

const PLACES = /\{(query|document|instruction|split)\}/;

/** The filled template, as pieces that are tokenised separately. Braces in the texts have no meaning. */
export function framedPieces(template: string, query: string, document: string, instruction: string): string[] {
  const values: Record<string, string> = { query, document, instruction };
  const pieces = [""];
  template.split(PLACES).forEach((part, index) => {
    if (index % 2 && part === "split") pieces.push("");
    else pieces[pieces.length - 1] += index % 2 ? (values[part] ?? "") : part;
  });
  return pieces;
}
