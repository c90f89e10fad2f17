import { describe, expect, it } from "vitest";
import { InvalidInputError, ManifestError } from "../src/errors.js";
import { lengthFor } from "../src/lengths.js";
import { parseManifest } from "../src/manifest.js";

const file = { bytes: 3, sha256: "0".repeat(64) };
const manifest = {
  format: 1,
  name: "m",
  files: { "t.json": file, "e.onnx": file, "p.onnx": file },
  tokenizer: "t.json",
  encoder: { graph: "e.onnx", data: {} },
  models: [{ name: "m", task: "embedding", max_length: 8, output: "embedding", head: { graph: "p.onnx", data: {} } }],
};
const parsed = (changes: object) => parseManifest(JSON.stringify({ ...manifest, ...changes }), "https://x/conch.json");

describe("conch.json", () => {
  it("may leave out what a model does not have", () => {
    expect(parsed({}).models[0]).toMatchObject({ prompts: {}, pools_prompt: true, interaction: null, space_id: null });
    expect(parsed({}).probes).toEqual([]);
  });

  it.each([
    ["another format", { format: 2 }, /format 2, and this release reads 1/],
    ["no models", { models: [] }, /lacks a part/],
    ["a file that it does not list", { tokenizer: "u.json" }, /does not list u\.json/],
    ["a file outside its folder", { files: { ...manifest.files, "../x": file } }, /outside its folder/],
    ["a file of another site", { files: { ...manifest.files, "https://y/x": file } }, /outside its folder/],
    ["no size", { files: { ...manifest.files, "e.onnx": { sha256: file.sha256 } } }, /no size of e\.onnx/],
    ["no hash", { files: { ...manifest.files, "e.onnx": { bytes: 3, sha256: "12" } } }, /no SHA-256 of e\.onnx/],
    ["a task for servers", { models: [{ ...manifest.models[0], task: "sparse" }] }, /task "sparse"/],
  ])("with %s is refused", (_, changes, message) => {
    expect(() => parsed(changes)).toThrow(ManifestError);
    expect(() => parsed(changes)).toThrow(message);
  });

  it("must be JSON", () => {
    expect(() => parseManifest("<html>", "https://x/conch.json")).toThrow(/is not JSON.*conch web/);
  });
});

describe("the longest text", () => {
  it("is as the caller wants, and never longer than the model reads", () => {
    expect(lengthFor(undefined, 512)).toBe(512);
    expect(lengthFor("short", 8192)).toBe(1024);
    expect(lengthFor("maximum", 512)).toBe(512);
    expect(() => lengthFor(2.5, 512)).toThrow(InvalidInputError);
  });
});
