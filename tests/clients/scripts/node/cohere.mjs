// Cohere's SDK for JavaScript: both versions of its API.
import { Cohere, CohereClient, CohereClientV2 } from "cohere-ai";
import { readFileSync } from "node:fs";

const [url, work] = [process.argv[2], JSON.parse(readFileSync(0, "utf8"))];
const client = new CohereClientV2({ environment: url, token: work.key });
const first = new CohereClient({ environment: url, token: work.key });
const asked = { model: work.model, inputType: "search_document", embeddingTypes: ["float"] };

const embedded = await client.embed({ ...asked, texts: work.texts });
const parts = work.texts.map((text) => ({ content: [{ type: "text", text }] }));
const inputs = await client.embed({ ...asked, inputs: parts });
const reranked = await client.rerank({ model: work.reranker, query: work.query, documents: work.documents });
const documents = work.documents.map((title) => ({ title }));
const titles = { model: work.reranker, query: work.query, documents, rankFields: ["title"], returnDocuments: true };
const byTitle = await first.rerank(titles);
const models = await client.models.list();
const refusal = await client.embed({ ...asked, model: "no-such-model", texts: ["a"] }).catch((error) => error);

console.log(
  JSON.stringify({
    vectors: embedded.embeddings.float,
    "vectors of inputs": inputs.embeddings.float,
    ranking: reranked.results.map((result) => result.index),
    "ranking by title": byTitle.results.map((result) => result.index),
    found: byTitle.results[0].document.title,
    models: models.models.map((model) => model.name),
    refusal: refusal instanceof Cohere.NotFoundError ? refusal.message : String(refusal.constructor.name),
  }),
);
