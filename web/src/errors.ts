/**
 * Errors that this module raises on purpose; every message names the fix.
 *
 *     ConchError                    the root
 *     ├── InvalidInputError         an argument cannot be served as it is
 *     ├── SpaceError                the answer would be in another vector space than the caller expects
 *     ├── UnsupportedBrowserError   the browser or the page lacks something, which the message names
 *     ├── DownloadError             a file could not be fetched, or arrived cut short
 *     │   └── IntegrityError        a file is not the one that the manifest describes
 *     ├── ManifestError             conch.json, or a graph, is not one that this release reads
 *     ├── TokenizerError            this tokenizer does not give the server's tokens for the model
 *     ├── OutOfMemoryError          the browser has no memory left for the model or the texts
 *     ├── EngineError               onnxruntime failed, or the worker ended
 *     └── DisposedError             the model was used after `dispose`
 */
export class ConchError extends Error {
  override name = "ConchError";
}

/** An argument cannot be served as it is; `indices` are those of the texts or documents at fault. */
export class InvalidInputError extends ConchError {
  override name = "InvalidInputError";

  constructor(
    message: string,
    readonly indices: readonly number[] = [],
  ) {
    super(message);
  }
}

export class SpaceError extends ConchError {
  override name = "SpaceError";
}

export class UnsupportedBrowserError extends ConchError {
  override name = "UnsupportedBrowserError";
}

export class DownloadError extends ConchError {
  override name = "DownloadError";
}

export class IntegrityError extends DownloadError {
  override name = "IntegrityError";
}

export class ManifestError extends ConchError {
  override name = "ManifestError";
}

export class TokenizerError extends ConchError {
  override name = "TokenizerError";
}

export class OutOfMemoryError extends ConchError {
  override name = "OutOfMemoryError";
}

export class EngineError extends ConchError {
  override name = "EngineError";
}

export class DisposedError extends ConchError {
  override name = "DisposedError";
}

/** An error as it passes from the worker to the page: a structured clone would lose its class. */
export interface WireError {
  name: string;
  message: string;
  indices?: readonly number[];
}

const CLASSES = {
  ConchError,
  SpaceError,
  UnsupportedBrowserError,
  DownloadError,
  IntegrityError,
  ManifestError,
  TokenizerError,
  OutOfMemoryError,
  EngineError,
  DisposedError,
} as const;

export function toWire(error: unknown): WireError {
  const known = ours(error);
  const wire = { name: known.name, message: known.message };
  return known instanceof InvalidInputError ? { ...wire, indices: known.indices } : wire;
}

export function fromWire({ name, message, indices }: WireError): ConchError {
  if (name === "InvalidInputError") return new InvalidInputError(message, indices);
  const kind = CLASSES[name as keyof typeof CLASSES] ?? EngineError;
  return new kind(message);
}

const MEMORY =
  /bad_alloc|out of memory|\boom\b|allocation failed|could not allocate|cannot enlarge|failed to allocate/i;
const POLICY = /content security policy|unsafe-eval/i;

/** The error itself if it is one of ours; else ours for what onnxruntime, WebAssembly or the browser threw. */
export function ours(error: unknown): ConchError {
  if (error instanceof ConchError) return error;
  const said = error instanceof Error ? error.message : String(error);
  if (MEMORY.test(said)) {
    return new OutOfMemoryError(
      `the browser has no memory left (${said}); load with a smaller maxLength, send shorter texts, close other tabs, ` +
        "or take a smaller model or precision",
    );
  }
  if (POLICY.test(said)) {
    return new UnsupportedBrowserError(
      `the page's Content-Security-Policy forbids WebAssembly (${said}); add 'wasm-unsafe-eval' to its script-src, ` +
        "and to that of worker.js",
    );
  }
  return new EngineError(`the model could not be run (${said}); load it again, or update conch-web`);
}
