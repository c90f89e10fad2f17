/** The worker: runs the calls of a model one after another, outside of the page's thread. */

import { WorkerModel } from "./engine/model.js";
import { toWire } from "./errors.js";
import type { Methods, Reply, Request } from "./messages.js";

let model: WorkerModel | undefined;

const methods: Methods = {
  async open(url, options) {
    model = await WorkerModel.open(url, options, (progress) => reply({ progress }));
    return model.description;
  },
  embed: (texts, options) => opened().embed(texts, options),
  rerank: (query, documents, options) => opened().rerank(query, documents, options),
  tokenize: (texts, options) => opened().tokenize(texts, options),
};

function opened(): WorkerModel {
  if (!model) throw new Error("no model was opened");
  return model;
}

// onnxruntime runs one graph at a time, so a call begins when the one before it has ended.
let last: Promise<void> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  last = last.then(() => handle(data));
});

async function handle({ id, method, args }: Request): Promise<void> {
  try {
    const result = await (methods[method] as (...args: unknown[]) => Promise<unknown>)(...args);
    reply({ id, result });
  } catch (error) {
    reply({ id, error: toWire(error) });
  }
}

function reply(message: Reply): void {
  self.postMessage(message);
}
