import { describe, expect, test } from "vitest";
import { boundaryOf, multipartOf, partsOf } from "../src/multipart";

const bytes = (text: string) => new TextEncoder().encode(text);
const string = (part: Uint8Array) => new TextDecoder().decode(part);

describe("the boundary", () => {
  test.each([
    ['multipart/related; type="application/octet-stream"; boundary="a b"', "a b"],
    ["multipart/related; boundary=abc; type=application/dicom", "abc"],
    ["Multipart/Related;Boundary=x", "x"],
    ["application/octet-stream", null],
  ])("of %s is %s", (contentType, boundary) => expect(boundaryOf(contentType)).toBe(boundary));
});

describe("parts", () => {
  test("come without headers and the line break before the next delimiter", () => {
    const body = bytes(
      "preamble\r\n--x\r\nContent-Type: a\r\n\r\none\r\n\r\n--x\r\nContent-Type: b\r\n\r\ntwo\r\n--x--\r\n",
    );
    expect(partsOf(body, "x").map(string)).toEqual(["one\r\n", "two"]);
  });

  test("may hold what looks like the start of a delimiter", () => {
    const content = "--\r\n-\r\n--y";
    expect(partsOf(bytes(`--x\r\nA: b\r\n\r\n${content}\r\n--x--`), "x").map(string)).toEqual([content]);
  });

  test("that were cut off are given as far as they came", () => {
    expect(partsOf(bytes("--x\r\nA: b\r\n\r\nhal"), "x").map(string)).toEqual(["hal"]);
  });

  test("that were put together come apart again", async () => {
    const body = multipartOf([new Blob(["one"]), new Blob(["two\r\n"])], "x");
    expect(partsOf(new Uint8Array(await body.arrayBuffer()), "x").map(string)).toEqual(["one", "two\r\n"]);
  });
});
