/**
 * Files of a model: fetched as a stream, checked against their hashes, and kept in the browser's cache.
 *
 * Cached files are checked as well, and fetched again if they differ from the manifest.
 */

import { DownloadError, IntegrityError } from "./errors.js";
import type { FileInfo } from "./manifest.js";

const CACHE = "conch-web";
const ADDRESS = "check the address";
const BUSY = "the server is busy or failing: load again later";
const KEY = "pass a key with `headers`";
const REPLACED = "conch.json lists it, so the model was replaced while it was loaded: load again";

export interface Progress {
  /** Path of the file of which a part arrived. */
  file: string;
  /** Bytes of all files that have arrived. */
  loaded: number;
  /** Bytes of all files. */
  total: number;
  /** Whether that file came from the browser's cache. */
  fromCache: boolean;
}

export interface Source {
  /** The folder of the files. */
  base: URL;
  /** Headers of every request, such as a key. */
  headers: Record<string, string>;
  /** Private windows and sandboxed frames may have no cache. Loading works without it. */
  cache: Promise<Cache | undefined>;
}

export function sourceOf(base: URL, headers: Record<string, string>): Source {
  const open = async () => globalThis.caches?.open(CACHE);
  return { base, headers, cache: open().catch(() => undefined) };
}

export class Files {
  readonly #total: number;
  #loaded = 0;

  constructor(
    private readonly source: Source,
    private readonly infos: Record<string, FileInfo>,
    private readonly onProgress: (progress: Progress) => void,
  ) {
    this.#total = Object.values(infos).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The bytes of a file; raises DownloadError, or IntegrityError for other bytes than the manifest describes. */
  async read(path: string): Promise<Uint8Array<ArrayBuffer>> {
    const info = this.infos[path] as FileInfo;
    const url = new URL(path, this.source.base);
    const cache = await this.source.cache;
    const kept = await cache?.match(url);
    if (kept) {
      const bytes = new Uint8Array(await kept.arrayBuffer());
      if (await isIntact(bytes, info)) {
        this.#advance(path, bytes.length, true);
        return bytes;
      }
    }
    const bytes = await this.#fetched(path, url, info);
    await cache?.put(url, new Response(bytes)).catch(() => undefined); // no room: the next load fetches it again
    return bytes;
  }

  /** Stores the manifest for use offline, once all its files are cached; deletes files of earlier exports. */
  async settle(manifest: URL, text: string): Promise<void> {
    const cache = await this.source.cache;
    await cache?.put(manifest, new Response(text)).catch(() => undefined);
    const current = new Set(
      [manifest, ...Object.keys(this.infos).map((path) => new URL(path, this.source.base))].map(String),
    );
    for (const { url } of (await cache?.keys()) ?? []) {
      if (url.startsWith(this.source.base.href) && !current.has(url)) await cache?.delete(url);
    }
  }

  async #fetched(path: string, url: URL, info: FileInfo): Promise<Uint8Array<ArrayBuffer>> {
    // Not into the HTTP cache, which would keep a second copy.
    const response = await request(url, this.source, "no-store", REPLACED);
    const bytes = new Uint8Array(info.bytes);
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw interrupted(url, `broke off after ${length} of ${info.bytes} bytes`, error);
      });
      if (done) break;
      if (length + value.length > info.bytes) {
        await reader.cancel();
        throw changed(url, `has more than ${info.bytes} bytes`);
      }
      bytes.set(value, length);
      length += value.length;
      this.#advance(path, value.length, false);
    }
    if (length < info.bytes) throw interrupted(url, `ended after ${length} of ${info.bytes} bytes`);
    if (!(await isIntact(bytes, info))) throw changed(url, "has another SHA-256");
    return bytes;
  }

  #advance(file: string, bytes: number, fromCache: boolean): void {
    this.#loaded += bytes;
    this.onProgress({ file, loaded: this.#loaded, total: this.#total, fromCache });
  }
}

/**
 * The text of a manifest; offline, the text that was last loaded with all its files.
 *
 * `isSettled` says whether it is that text, so that there is nothing to store.
 */
export async function readManifest(url: URL, source: Source): Promise<{ text: string; isSettled: boolean }> {
  const kept = keptText(url, source);
  try {
    const text = await (await request(url, source, "no-cache")).text();
    return { text, isSettled: text === (await kept) };
  } catch (error) {
    const text = error instanceof OfflineError ? await kept : undefined;
    if (text === undefined) throw error;
    return { text, isSettled: true };
  }
}

async function keptText(url: URL, source: Source): Promise<string | undefined> {
  const response = await (await source.cache)?.match(url).catch(() => undefined);
  return response?.text();
}

/** The server cannot be reached at all. */
class OfflineError extends DownloadError {}

async function request(url: URL, source: Source, cache: RequestCache, missing = ADDRESS): Promise<Response> {
  const response = await fetch(url, { headers: source.headers, cache }).catch((error) => {
    throw interrupted(url, "cannot be fetched", error, OfflineError);
  });
  if (!response.ok) {
    const { status } = response;
    throw new DownloadError(`${url} was answered with status ${status}; ${fixFor(status, missing)}`);
  }
  return response;
}

function fixFor(status: number, missing: string): string {
  if (status === 404) return missing;
  if (status === 401 || status === 403) return KEY;
  return status === 429 || status >= 500 ? BUSY : ADDRESS;
}

function interrupted(url: URL, what: string, cause?: unknown, kind = DownloadError): DownloadError {
  const why = cause instanceof Error ? ` (${cause.message})` : "";
  return new kind(`${url} ${what}${why}; load again, and check the network and the server's cross-origin headers`);
}

function changed(url: URL, what: string): IntegrityError {
  return new IntegrityError(
    `${url} ${what} than conch.json says: the model was replaced while it was loaded, or the file was changed on its way; ` +
      "load again, and if that does not help write the model again with `conch web`, or clear the CDN's cache",
  );
}

async function isIntact(bytes: Uint8Array<ArrayBuffer>, info: FileInfo): Promise<boolean> {
  if (bytes.length !== info.bytes) return false;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === info.sha256;
}
