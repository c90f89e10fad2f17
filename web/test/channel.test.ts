import { beforeEach, describe, expect, it } from "vitest";
import { Channel } from "../src/channel.js";
import { DisposedError, EngineError, InvalidInputError } from "../src/errors.js";
import type { Progress } from "../src/files.js";

/** A worker that answers when the test says so. */
class HeldWorker extends EventTarget {
  readonly asked: { id: number; method: string }[] = [];
  ended = false;
  postMessage = (message: { id: number; method: string }) => void this.asked.push(message);
  terminate = () => {
    this.ended = true;
  };
  say = (data: object) => void this.dispatchEvent(new MessageEvent("message", { data }));
}

let worker: HeldWorker;
let told: Progress[];
let channel: Channel;

beforeEach(() => {
  worker = new HeldWorker();
  told = [];
  channel = new Channel(worker as unknown as Worker, (progress) => told.push(progress));
});

describe("calls to a worker", () => {
  it("get their own answers, in whatever order these come", async () => {
    const first = channel.call("tokenize", ["a"], {});
    const second = channel.call("tokenize", ["b"], {});
    worker.say({ id: 1, result: [[2]] });
    worker.say({ progress: { file: "f", loaded: 1, total: 2, fromCache: false } });
    worker.say({ id: 0, error: { name: "InvalidInputError", message: "texts[0]", indices: [0] } });

    await expect(first).rejects.toBeInstanceOf(InvalidInputError);
    expect(await second).toEqual([[2]]);
    expect(told).toHaveLength(1);
  });

  it("are rejected when it is closed, and so are later ones", async () => {
    const waiting = channel.call("tokenize", ["a"], {});
    channel.close(new DisposedError("disposed of"));

    await expect(waiting).rejects.toBeInstanceOf(DisposedError);
    await expect(channel.call("tokenize", ["a"], {})).rejects.toBeInstanceOf(DisposedError);
    expect(worker.ended).toBe(true);
  });

  it("with what no worker can be given are refused, and later ones answered", async () => {
    const { postMessage } = worker;
    worker.postMessage = () => {
      throw new DOMException("Headers object could not be cloned", "DataCloneError");
    };

    const refused = await channel.call("tokenize", ["a"], {}).catch((error) => error);
    expect(refused).toBeInstanceOf(InvalidInputError);
    expect(refused.message).toMatch(/arguments of tokenize.*could not be cloned.*plain objects/);
    worker.postMessage = postMessage;
    const next = channel.call("tokenize", ["b"], {});
    worker.say({ id: worker.asked[0]?.id, result: [[2]] });
    expect(await next).toEqual([[2]]);
  });

  it("are rejected when the worker fails, with what to do", async () => {
    const waiting = channel.call("tokenize", ["a"], {});
    worker.dispatchEvent(new Event("error", { cancelable: true }));

    await expect(waiting).rejects.toBeInstanceOf(EngineError);
    await expect(waiting).rejects.toThrow(/serve worker\.js beside conch-web\.js/);
  });
});
