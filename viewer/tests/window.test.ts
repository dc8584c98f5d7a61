import { describe, expect, test } from "vitest";
import type { PixelFormat } from "../src/imaging/frames";
import { shades, storedValues, windowFor } from "../src/imaging/window";

const CT: PixelFormat = {
  bitsAllocated: 16,
  bitsStored: 12,
  signed: true,
  samples: 1,
  photometric: "MONOCHROME2",
  lookedUp: false,
};

describe("stored values", () => {
  test("lose the bits above BitsStored and keep their sign", () => {
    const bytes = new Uint8Array([0xff, 0x0f, 0x01, 0xf0, 0x00, 0x08]);
    expect([...storedValues(bytes, CT)]).toEqual([-1, 1, -2048]);
    expect([...storedValues(bytes, { ...CT, signed: false })]).toEqual([4095, 1, 2048]);
  });

  test("may begin at an odd byte of a larger body", () => {
    const body = new Uint8Array([9, 1, 0, 2, 0]).subarray(1);
    expect([...storedValues(body, { ...CT, bitsStored: 16 })]).toEqual([1, 2]);
  });
});

describe("shades", () => {
  const table = shades({ center: 40, width: 400 }, CT, 1, -1024, false);
  const shadeOf = (hounsfield: number) => table[(hounsfield + 1024) & 0xffff];

  test("span the window and are constant beyond it", () => {
    expect([-1000, -160, 240, 3000].map(shadeOf)).toEqual([0, 0, 255, 255]);
    expect(shadeOf(40)).toBeCloseTo(128, -0.5);
  });

  test("are turned around by MONOCHROME1, and back again by the reader", () => {
    const film = { ...CT, photometric: "MONOCHROME1" };
    expect(shades({ center: 40, width: 400 }, film, 1, -1024, false)[0]).toBe(255);
    expect(shades({ center: 40, width: 400 }, film, 1, -1024, true)[0]).toBe(0);
  });
});

test("a window of one's own leaves out the extremes", () => {
  const values = Int16Array.from({ length: 16_000 }, (_, at) => (at === 0 ? 30_000 : Math.floor(at / 160)));
  expect(windowFor(values, 1, 0)).toMatchObject({ center: 50, width: 98 });
});
