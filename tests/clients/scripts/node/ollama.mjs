// Ollama's SDK for JavaScript.
import { Ollama } from "ollama";
import { readFileSync } from "node:fs";

const [url, work] = [process.argv[2], JSON.parse(readFileSync(0, "utf8"))];
const client = new Ollama({ host: url, headers: { authorization: `Bearer ${work.key}` } });

const embedded = await client.embed({ model: work.model, input: work.texts });
const one = await client.embeddings({ model: work.model, prompt: work.texts[0] });
const nothing = await client.embed({ model: work.model, input: "" });
const { models } = await client.list();
const pulled = await client.pull({ model: models[0].name });
const refusal = await client.embed({ model: "no-such-model", input: "a" }).catch((error) => error);

console.log(
  JSON.stringify({
    vectors: embedded.embeddings,
    "first vector as floats": one.embedding,
    nothing: nothing.embeddings,
    models: models.map((model) => model.name),
    pulled: pulled.status,
    refusal: refusal.name === "ResponseError" ? `${refusal.status_code} ${refusal.message}` : String(refusal),
  }),
);
