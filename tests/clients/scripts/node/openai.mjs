// OpenAI's SDK for JavaScript.
import OpenAI, { NotFoundError } from "openai";
import { readFileSync } from "node:fs";

const [url, work] = [process.argv[2], JSON.parse(readFileSync(0, "utf8"))];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: work.key });

const embedded = await client.embeddings.create({ model: work.model, input: work.texts });
const floats = await client.embeddings.create({ model: work.model, input: work.texts[0], encoding_format: "float" });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const refusal = await client.embeddings.create({ model: "no-such-model", input: "a" }).catch((error) => error);

console.log(
  JSON.stringify({
    vectors: embedded.data.map((item) => item.embedding),
    "first vector as floats": floats.data[0].embedding,
    models,
    refusal: refusal instanceof NotFoundError ? refusal.message : String(refusal.constructor.name),
  }),
);
