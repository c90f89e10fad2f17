// Voyage's SDK for JavaScript.
import { VoyageAIClient, VoyageAIError } from "voyageai";
import { readFileSync } from "node:fs";

const [url, work] = [process.argv[2], JSON.parse(readFileSync(0, "utf8"))];
const client = new VoyageAIClient({ environment: `${url}/v1`, apiKey: work.key });

const embedded = await client.embed({ model: work.model, input: work.texts });
const asked = { model: work.reranker, query: work.query, documents: work.documents };
const reranked = await client.rerank({ ...asked, topK: 3, returnDocuments: true });
const refusal = await client.embed({ model: "no-such-model", input: ["a"] }).catch((error) => error);

console.log(
  JSON.stringify({
    vectors: embedded.data.map((item) => item.embedding),
    ranking: reranked.data.map((item) => item.index),
    found: reranked.data[0].document,
    refusal: refusal instanceof VoyageAIError ? `${refusal.statusCode} ${refusal.message}` : String(refusal),
  }),
);
