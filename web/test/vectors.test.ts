import { describe, expect, it } from "vitest";
import { checkVectors, shaped, spaceOf } from "../src/engine/vectors.js";
import { InvalidInputError, SpaceError } from "../src/errors.js";
import type { ModelInfo } from "../src/manifest.js";

const model = {
  name: "m",
  dimension: 4,
  normalized: true,
  matryoshka_dimensions: [2, 4],
  matryoshka_centred: false,
  space_id: "0123456789abcdef",
} as ModelInfo;

describe("vectors", () => {
  it("that are cut have length 1 again", () => {
    const [x = 0, y = 0, ...others] = shaped(
      Float32Array.of(0.6, 0.8, 0, 0).map((n) => n / 2),
      model,
      { dimensions: 2 },
    );

    expect([x, y]).toEqual([expect.closeTo(0.6), expect.closeTo(0.8)]);
    expect(others).toEqual([]);
  });

  it("are centred before they are cut where their authors do so", () => {
    const centred = { ...model, normalized: false, matryoshka_centred: true };

    expect(shaped(Float32Array.of(1, 2, 3, 6), centred, { dimensions: 2, normalize: false })).toEqual(
      Float32Array.of(-2, -1),
    );
  });

  it.each([
    ["more numbers than there are", { dimensions: 5 }],
    ["half a number", { dimensions: 1.5 }],
    ["the length that is normalised away", { normalize: false }],
  ])("with %s are refused", (_, options) => {
    expect(() => checkVectors(model, options)).toThrow(InvalidInputError);
  });

  it("are not cut where nobody trained them for that", () => {
    expect(() => checkVectors({ ...model, matryoshka_dimensions: null }, { dimensions: 2 })).toThrow(/Matryoshka/);
  });
});

describe("the space", () => {
  it("says how a call changes it", () => {
    const raw = { ...model, normalized: false };

    expect(spaceOf(model)).toBe("0123456789abcdef");
    expect(spaceOf(model, { dimensions: 2 })).toBe("0123456789abcdef/2");
    expect(spaceOf(raw)).toBe("0123456789abcdef/unit");
    expect(spaceOf({ ...model, space_id: null })).toBeNull();
  });

  it("is compared with the caller's", () => {
    expect(() => checkVectors(model, { expectSpace: "0123456789abcdef" })).not.toThrow();
    expect(() => checkVectors(model, { expectSpace: "other" })).toThrow(SpaceError);
    expect(() => checkVectors(model, { expectSpace: null as never })).not.toThrow();
  });

  it("may be expected with what lets a server answer by a bridge", () => {
    expect(() => checkVectors(model, { expectSpace: "~0123456789abcdef" })).not.toThrow();
    expect(() => checkVectors(model, { expectSpace: "~other" })).toThrow(/expectSpace is '~other'/);
  });
});
