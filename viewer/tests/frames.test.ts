import { describe, expect, test } from "vitest";
import type { Dataset } from "../src/dicom";
import { framesOf } from "../src/imaging/frames";
import { edgesOf, lettersOf } from "../src/imaging/geometry";

const AXIAL = [1, 0, 0, 0, 1, 0];
const SAGITTAL = [0, 1, 0, 0, 0, -1];

function slice(uid: string, position: number[], orientation: number[], instanceNumber: number): Dataset {
  return {
    "00080018": { vr: "UI", Value: [uid] },
    "00200013": { vr: "IS", Value: [instanceNumber] },
    "00200032": { vr: "DS", Value: position },
    "00200037": { vr: "DS", Value: orientation },
    "00280010": { vr: "US", Value: [512] },
    "00280011": { vr: "US", Value: [512] },
  };
}

const order = (...slices: Dataset[]) => framesOf(slices).map(({ instance }) => instance);

describe("slices", () => {
  test("of an axial series run from the head to the feet, whatever their numbers", () => {
    expect(
      order(
        slice("low", [0, 0, 10], AXIAL, 1),
        slice("high", [0, 0, 30], AXIAL, 2),
        slice("mid", [0, 0, 20], AXIAL, 3),
      ),
    ).toEqual(["high", "mid", "low"]);
  });
  test("of a sagittal series run from right to left", () => {
    expect(order(slice("left", [40, 0, 0], SAGITTAL, 1), slice("right", [-40, 0, 0], SAGITTAL, 2))).toEqual([
      "right",
      "left",
    ]);
  });
  test("that are not parallel keep the order of InstanceNumber", () => {
    expect(order(slice("b", [0, 0, 30], AXIAL, 2), slice("a", [0, 0, 10], SAGITTAL, 1))).toEqual(["a", "b"]);
  });
});

test("objects without pixels have no frames", () => {
  expect(framesOf([{ "00080018": { vr: "UI", Value: ["1"] } }])).toEqual([]);
});

test("frames of an enhanced object take what is theirs from the functional groups, per frame before shared", () => {
  const group = (z: number): Dataset => ({
    "00209113": { vr: "SQ", Value: [{ "00200032": { vr: "DS", Value: [0, 0, z] } }] },
    ...(z > 0 && {
      "00289145": {
        vr: "SQ",
        Value: [{ "00281052": { vr: "DS", Value: [-1000] }, "00281053": { vr: "DS", Value: [2] } }],
      },
    }),
  });
  const shared: Dataset = {
    "00209116": { vr: "SQ", Value: [{ "00200037": { vr: "DS", Value: AXIAL } }] },
    "00289110": { vr: "SQ", Value: [{ "00280030": { vr: "DS", Value: [0.5, 0.25] } }] },
  };
  const frames = framesOf([
    {
      ...slice("1", [], [], 1),
      "00280008": { vr: "IS", Value: [2] },
      "52009229": { vr: "SQ", Value: [shared] },
      "52009230": { vr: "SQ", Value: [group(0), group(5)] },
    },
  ]);
  expect(
    frames.map(({ number, position, slope, intercept }) => ({ number, z: position?.[2], slope, intercept })),
  ).toEqual([
    { number: 2, z: 5, slope: 2, intercept: -1000 },
    { number: 1, z: 0, slope: 1, intercept: 0 },
  ]);
  expect(frames[0]?.spacing).toEqual([0.5, 0.25]);
});

describe("directions", () => {
  test("of an axial image: the patient's right is on the left", () => {
    expect(edgesOf(AXIAL)).toEqual({ left: "R", right: "L", top: "A", bottom: "P" });
  });
  test("that are oblique have two letters, the stronger one first", () => expect(lettersOf([0, 0.6, 0.8])).toBe("HP"));
  test("of an image without orientation are not known", () => expect(edgesOf([])).toBeNull());
});
