import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { InvalidInputError, UnsupportedBrowserError } from "../src/errors.js";
import { load } from "../src/index.js";

beforeEach(() => {
  vi.stubGlobal("location", { href: "https://x.example/page" });
  vi.stubGlobal(
    "Worker",
    class {
      constructor(url: URL) {
        throw new DOMException(`Script at '${url}' cannot be accessed from origin`, "SecurityError");
      }
    },
  );
});

afterEach(() => {
  vi.unstubAllGlobals();
});

it("a worker of another origin is told with what to do", async () => {
  const error = await load("/web/m/", { assets: "https://cdn.example/conch-web/" }).catch((error) => error);

  expect(error).toBeInstanceOf(UnsupportedBrowserError);
  expect(error.message).toMatch(/https:\/\/cdn\.example\/conch-web\/worker\.js.*from the page's own origin/);
});

it.each([
  ["a model", "https://[", {}],
  ["the assets", "/web/m/", { assets: "https://[" }],
])("an address of %s that is none is refused", async (_, url, options) => {
  await expect(load(url, options)).rejects.toBeInstanceOf(InvalidInputError);
});
