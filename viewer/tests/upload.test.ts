import { expect, test } from "vitest";
import { batchesOf, reasonOf } from "../src/upload";

const MEBIBYTE = 1 << 20;
const files = (...sizes: number[]) => sizes.map((mebibytes) => ({ size: mebibytes * MEBIBYTE }));
const sizes = (batches: { size: number }[][]) => batches.map((batch) => batch.map(({ size }) => size / MEBIBYTE));

test("requests hold at most 64 MiB, and a larger file goes alone", () => {
  expect(sizes(batchesOf(files(40, 20, 10, 200, 1)))).toEqual([[40, 20], [10], [200], [1]]);
});

test("requests hold at most 40 files", () => {
  expect(batchesOf(files(...Array<number>(81).fill(0))).map((batch) => batch.length)).toEqual([40, 40, 1]);
});

test.each([
  [0xa700, /storage is full/],
  [0xc002, /de-identification policy/],
  [0xc000, /not a readable/],
  [0x0110, /0x0110/],
])("failure reason %i is said in words", (code, words) => {
  expect(reasonOf(code)).toMatch(words);
});
