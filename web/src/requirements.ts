/** Checks the features of the browser before anything is downloaded. */

import { InvalidInputError, UnsupportedBrowserError } from "./errors.js";

// A function whose body is `i8x16.popcnt`, from the WebAssembly SIMD proposal.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

/** Most threads of one model: with more than four, small models get no faster. */
const MOST_THREADS = 4;

/**
 * Raises UnsupportedBrowserError, naming what is missing.
 *
 * All browsers since 2023 have the features: Chrome 91, Firefox 114, Safari 16.4.
 */
export function checkBrowser(): void {
  const missing = firstMissing();
  if (missing) throw new UnsupportedBrowserError(missing);
}

/** Threads of a model: the wanted number if the page is cross-origin isolated, else one. */
export function threadsFor(wanted: number | undefined): number {
  if (wanted !== undefined && !(Number.isInteger(wanted) && wanted >= 1)) {
    throw new InvalidInputError(`threads must be a whole number of at least 1, not ${wanted}`);
  }
  if (!globalThis.crossOriginIsolated) return 1;
  return wanted ?? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1));
}

function firstMissing(): string | undefined {
  if (typeof WebAssembly !== "object") {
    return "this browser has no WebAssembly; update it, or switch WebAssembly on in its settings";
  }
  if (typeof Worker !== "function" || typeof BigInt64Array !== "function") {
    return "this browser has no workers or no 64-bit integers; update it (Chrome 91, Firefox 114, Safari 16.4 or later)";
  }
  if (globalThis.isSecureContext === false || !globalThis.crypto?.subtle) {
    return "the page is not in a secure context, so hashes cannot be checked; serve it by https, or from localhost";
  }
  if (!WebAssembly.validate(Uint8Array.from(SIMD))) {
    return "this browser has no WebAssembly SIMD, which the model needs; update it (Chrome 91, Firefox 89, Safari 16.4 or later), or use another machine: very old processors lack it";
  }
  return undefined;
}
