// Posts a file with fetch, or with http: node post.mjs fetch|http URL FILE
import { readFileSync } from "node:fs";
import { request } from "node:http";

const [how, url, file] = process.argv.slice(2);
const body = readFileSync(file);
const show = (status, text) => process.stdout.write(`${status}\n${text}`);

if (how === "fetch") {
  const answer = await fetch(url, { method: "POST", body });
  show(answer.status, await answer.text());
} else {
  const asked = request(url, { method: "POST", headers: { "content-length": body.length } }, (answer) => {
    let text = "";
    answer.on("data", (part) => (text += part));
    answer.on("end", () => show(answer.statusCode, text));
  });
  asked.end(body);
}
