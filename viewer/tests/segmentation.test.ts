import { describe, expect, test } from "vitest";
import type { Dataset } from "../src/dicom";
import { segmentColor } from "../src/imaging/color";
import { Overlay, segmentationOf } from "../src/imaging/segmentation";

const dataset: Dataset = {
  "00080018": { vr: "UI", Value: ["9"] },
  "00081115": { vr: "SQ", Value: [{ "0020000E": { vr: "UI", Value: ["7"] } }] },
  "00280010": { vr: "US", Value: [4] },
  "00280011": { vr: "US", Value: [4] },
  "00280100": { vr: "US", Value: [1] },
  "00620001": { vr: "CS", Value: ["BINARY"] },
  "00620002": {
    vr: "SQ",
    Value: [
      {
        "00620004": { vr: "US", Value: [1] },
        "00620005": { vr: "LO", Value: ["Bone"] },
        "0062000D": { vr: "US", Value: [65535, 32896, 32896] },
      },
    ],
  },
  "52009230": { vr: "SQ", Value: [{ "0062000A": { vr: "SQ", Value: [{ "0062000B": { vr: "US", Value: [1] } }] } }] },
};
const segmentation = segmentationOf("1", "8", dataset);
const WHITE = 0xffffff;

function painted(overlay: Overlay, hidden: number[] = []): number[] {
  const picture = { data: new Uint8ClampedArray(64) } as unknown as ImageData;
  overlay.paint(0, picture, new Set(hidden));
  return [...new Uint32Array(picture.data.buffer)];
}

test("the metadata say which series, which segments and which frames", () => {
  expect(segmentation).toMatchObject({
    references: ["7"],
    segments: [{ number: 1, label: "Bone" }],
    frames: [{ number: 1, segment: 1 }],
  });
});

describe("an overlay", () => {
  const packed = new Overlay(segmentation);
  packed.add(0, { segment: 1, pixels: new Uint8Array([0b0111_0000, 0b0111_0111]), packed: true });

  test("reads packed bits from the lowest on, and colours what they cover", () => {
    const covered = painted(packed).flatMap((pixel, at) => (pixel ? [at] : []));
    expect(covered).toEqual([4, 5, 6, 8, 9, 10, 12, 13, 14]);
  });

  test("is opaque along the outline and translucent inside", () => {
    const pixels = painted(packed);
    expect(pixels[4]).toBe((WHITE | 0xff000000) >>> 0);
    expect(pixels[9]).toBe((WHITE | 0x60000000) >>> 0);
  });

  test("leaves out hidden segments", () => expect(painted(packed, [1]).every((pixel) => pixel === 0)).toBe(true));

  test("of a label map shows each value as its segment", () => {
    const map = new Overlay(segmentation);
    map.add(0, {
      segment: null,
      pixels: Uint8Array.from({ length: 16 }, (_, at) => (at === 5 ? 1 : 0)),
      packed: false,
    });
    expect(painted(map).flatMap((pixel, at) => (pixel ? [at] : []))).toEqual([5]);
  });
});

test("CIELab colours are those of the standard's scale", () => {
  expect(segmentColor([65535, 32896, 32896], 1)).toEqual([255, 255, 255]);
  expect(segmentColor([0, 32896, 32896], 1)).toEqual([0, 0, 0]);
  const [red, green, blue] = segmentColor([34939, 53485, 50171], 1); // sRGB red in D50: L 53.3, a 80.1, b 67.2
  expect(red).toBeGreaterThan(245);
  expect(Math.max(green, blue)).toBeLessThan(30);
});
