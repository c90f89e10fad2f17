import { describe, expect, it } from "vitest";
import * as errors from "../src/errors.js";

describe("errors", () => {
  it("keep their class and what they are about on the way from the worker", () => {
    const error = errors.fromWire(
      structuredClone(errors.toWire(new errors.InvalidInputError("texts[1] is no text", [1]))),
    );

    expect(error).toBeInstanceOf(errors.InvalidInputError);
    expect(error).toMatchObject({ message: "texts[1] is no text", indices: [1], name: "InvalidInputError" });
    expect(errors.fromWire(errors.toWire(new errors.IntegrityError("changed")))).toBeInstanceOf(errors.DownloadError);
  });

  it.each([
    ["Can't create a session. ERROR_CODE: 6, ERROR_MESSAGE: std::bad_alloc", errors.OutOfMemoryError],
    ["Aborted(OOM)", errors.OutOfMemoryError],
    ["Array buffer allocation failed", errors.OutOfMemoryError],
    ["violates the following Content Security Policy directive", errors.UnsupportedBrowserError],
    ["something else", errors.EngineError],
  ])("of others become ours: %s", (message, kind) => {
    expect(errors.ours(new Error(message))).toBeInstanceOf(kind);
  });
});
