import { load } from "./web/conch-web/conch-web.js";

const TOP = 5;
const form = document.querySelector("#search");
const state = document.querySelector("#state");

// A browser that refuses it (blocked cookies, say) needs the network.
await navigator.serviceWorker?.register("offline.js").catch(() => undefined);
await open().catch(tell);

async function open() {
  const [index, numbers] = await Promise.all([
    fetch("index.json").then((response) => response.json()),
    fetch("vectors.bin").then((response) => response.arrayBuffer()),
  ]);
  const vectors = new Float32Array(numbers);
  const model = await load(`web/${index.model}/`, {
    onProgress({ loaded, total }) {
      state.textContent = `Loading the model: ${Math.round((100 * loaded) / total)} %`;
    },
  });
  state.textContent = `${index.documents.length} paragraphs, ${model.threads} threads.`;
  form.querySelector("button").disabled = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(model, index, vectors).catch(tell);
  });
}

async function search(model, index, vectors) {
  const began = performance.now();
  // Vectors of another space than the index's would give wrong neighbours: `expectSpace` refuses them.
  const query = await model.embed(form.elements.query.value, { expectSpace: index.space });
  const best = nearest(vectors, query).slice(0, TOP);
  state.textContent = `${Math.round(performance.now() - began)} ms on this device.`;
  show(best.map(({ row, score }) => ({ ...index.documents[row], score })));
}

function tell(error) {
  state.textContent = `${error.name}: ${error.message}`;
}

/** Rows by descending dot product: vectors have length 1, so it is the cosine. */
function nearest(vectors, query) {
  const scores = [];
  for (let row = 0; row * query.length < vectors.length; row++) {
    const begin = row * query.length;
    scores.push({ row, score: query.reduce((sum, number, place) => sum + number * vectors[begin + place], 0) });
  }
  return scores.sort((a, b) => b.score - a.score);
}

function show(documents) {
  const items = documents.map(({ source, text, score }) => {
    const item = document.createElement("li");
    const where = document.createElement("small");
    where.textContent = ` ${score.toFixed(3)} ${source}`;
    item.append(text, document.createElement("br"), where);
    return item;
  });
  document.querySelector("#found").replaceChildren(...items);
}
