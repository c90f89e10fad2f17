import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DownloadError, IntegrityError } from "../src/errors.js";
import { Files, type Progress, readManifest, type Source, sourceOf } from "../src/files.js";

const base = new URL("https://x.example/web/m/");
let source: Source;
const content = new TextEncoder().encode("the weights of a model");
const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
const infos = { "e.onnx": { bytes: content.length, sha256 } };

/** A cache that keeps what it is given. */
class MemoryCache {
  readonly kept = new Map<string, ArrayBuffer>();
  match = async (url: URL) => (this.kept.has(url.href) ? new Response(this.kept.get(url.href)) : undefined);
  put = async (url: URL, response: Response) => void this.kept.set(url.href, await response.arrayBuffer());
  keys = async () => [...this.kept.keys()].map((url) => ({ url }));
  delete = async (url: string) => this.kept.delete(url);
}

let cache: MemoryCache;
let seen: Progress[];
const fetched = vi.fn<typeof fetch>();
const read = () => new Files(source, infos, (progress) => seen.push(progress)).read("e.onnx");
const answer = (body: BodyInit, status = 200) => fetched.mockImplementation(async () => new Response(body, { status }));

beforeEach(() => {
  cache = new MemoryCache();
  seen = [];
  vi.stubGlobal("caches", { open: async () => cache });
  source = sourceOf(base, { authorization: "Bearer k" });
  vi.stubGlobal("fetch", fetched);
  answer(content);
});

afterEach(() => {
  vi.unstubAllGlobals();
  fetched.mockReset();
});

describe("a file", () => {
  it("is fetched once, with the caller's headers, and then read from the cache", async () => {
    expect(await read()).toEqual(content);
    expect(await read()).toEqual(content);

    expect(fetched).toHaveBeenCalledOnce();
    expect(fetched.mock.calls[0]?.[1]?.headers).toEqual(source.headers);
    expect(seen.map(({ loaded, total, fromCache }) => [loaded, total, fromCache])).toEqual([
      [content.length, content.length, false],
      [content.length, content.length, true],
    ]);
  });

  it("is fetched anew where the cache holds another one", async () => {
    cache.kept.set(
      new URL("e.onnx", base).href,
      new TextEncoder().encode("the weights of an older").buffer as ArrayBuffer,
    );

    expect(await read()).toEqual(content);
    expect(fetched).toHaveBeenCalledOnce();
  });

  it("is read where there is no cache", async () => {
    vi.stubGlobal("caches", undefined);
    source = sourceOf(base, {});

    expect(await read()).toEqual(content);
  });

  it.each([
    ["was changed", "the weights of a modem", /another SHA-256.*was replaced while it was loaded.*load again/],
    ["has grown", "the weights of a model and more", /more than 22 bytes/],
  ])("that %s is refused, and not kept", async (_, body, message) => {
    answer(body);

    const error = await read().catch((error) => error);
    expect(error).toBeInstanceOf(IntegrityError);
    expect(error.message).toMatch(message);
    expect(cache.kept.size).toBe(0);
  });

  it("that ends early is a broken download", async () => {
    answer("the wei");

    const error = await read().catch((error) => error);
    expect(error).toBeInstanceOf(DownloadError);
    expect(error).not.toBeInstanceOf(IntegrityError);
    expect(error.message).toMatch(/ended after 7 of 22 bytes.*load again/);
  });

  it("that a newer export has replaced says so", async () => {
    answer("", 404);

    await expect(read()).rejects.toThrow(/status 404; conch.json lists it, so the model was replaced.*load again/);
  });

  it("that needs a key says so", async () => {
    answer("", 401);

    await expect(read()).rejects.toThrow(/status 401; pass a key with `headers`/);
  });

  it.each([429, 502, 503])("that a server cannot give now, with status %i, is to be loaded later", async (status) => {
    answer("", status);

    await expect(read()).rejects.toThrow(`status ${status}; the server is busy or failing: load again later`);
  });

  it("of an earlier export is dropped from the cache, and those of other models stay", async () => {
    const other = "https://x.example/web/n/e.onnx";
    cache.kept.set(new URL("old.onnx", base).href, new ArrayBuffer(1));
    cache.kept.set(other, new ArrayBuffer(1));

    await new Files(source, infos, () => undefined).settle(new URL("conch.json", base), "{}");

    expect([...cache.kept.keys()]).toEqual([other, new URL("conch.json", base).href]);
  });
});

describe("a manifest", () => {
  const url = new URL("conch.json", base);

  it("is that of the model that was last loaded whole where there is no network", async () => {
    await new Files(source, infos, () => undefined).settle(url, "{}");
    answer("<html>sign in</html>");
    await readManifest(url, source); // of a network that answers for others, or of a model whose files did not come
    fetched.mockRejectedValue(new TypeError("Failed to fetch"));

    expect(await readManifest(url, source)).toEqual({ text: "{}", isSettled: true });
  });

  it("that has changed, or was never loaded whole, is to be stored", async () => {
    answer("{}");
    expect(await readManifest(url, source)).toEqual({ text: "{}", isSettled: false });
    await new Files(source, infos, () => undefined).settle(url, "{}");

    expect(await readManifest(url, source)).toEqual({ text: "{}", isSettled: true });
    answer('{"format": 1}');
    expect(await readManifest(url, source)).toEqual({ text: '{"format": 1}', isSettled: false });
  });

  it("that the server no longer has is an error", async () => {
    await new Files(source, infos, () => undefined).settle(url, "{}");
    answer("", 404);

    await expect(readManifest(url, source)).rejects.toThrow(/status 404/);
  });
});
