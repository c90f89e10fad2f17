/** Calls methods of a worker from the page. When the worker ends, unanswered calls are rejected. */

import { type ConchError, EngineError, fromWire, InvalidInputError } from "./errors.js";
import type { Progress } from "./files.js";
import type { Methods, Reply } from "./messages.js";

/** What a page can do whose worker does not start. */
export const SERVE_WORKER =
  "serve worker.js beside conch-web.js, or in the folder `assets`, from the page's own origin, and allow it in worker-src of the page's policy";

interface Pending {
  resolve(result: unknown): void;
  reject(error: ConchError): void;
}

export class Channel {
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #closed: ConchError | undefined;

  constructor(
    private readonly worker: Worker,
    onProgress: (progress: Progress) => void,
  ) {
    worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      if ("progress" in data) onProgress(data.progress);
      else this.#settle(data);
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.close(
        new EngineError(`the model's worker ended (${event.message || "worker.js cannot be loaded"}); ${SERVE_WORKER}`),
      );
    });
  }

  call<Name extends keyof Methods>(method: Name, ...args: Parameters<Methods[Name]>): ReturnType<Methods[Name]> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed);
      const id = this.#next++;
      this.#pending.set(id, { resolve, reject });
      try {
        this.worker.postMessage({ id, method, args });
      } catch (error) {
        this.#pending.delete(id);
        const fix = "pass texts, numbers and plain objects, such as {authorization: …} for headers";
        reject(new InvalidInputError(`the worker cannot be given the arguments of ${method} (${error}); ${fix}`));
      }
    }) as ReturnType<Methods[Name]>;
  }

  /** Ends the worker; calls that it has not answered, and later ones, are rejected with the error. */
  close(error: ConchError): void {
    this.#closed ??= error;
    this.worker.terminate();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #settle(reply: Exclude<Reply, { progress: Progress }>): void {
    const call = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if ("error" in reply) call?.reject(fromWire(reply.error));
    else call?.resolve(reply.result);
  }
}
