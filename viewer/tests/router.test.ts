import { afterEach, expect, test, vi } from "vitest";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

/** The module as it is on a page whose server says that it lies at `base`. */
async function routerAt(base: string | undefined) {
  vi.stubGlobal("document", { documentElement: { dataset: { base } } });
  return import("../src/router");
}

test.each([undefined, "./", "/"])("a page at the root has its studies below it (base %s)", async (base) => {
  const { studyAddress, studyOf } = await routerAt(base);
  expect(studyAddress("1.2.3")).toBe("/studies/1.2.3");
  expect(studyOf("/studies/1.2.3")).toBe("1.2.3");
  expect(studyOf("/studies/1.2.3/")).toBe("1.2.3");
});

test("a page below a path knows its addresses from those of others", async () => {
  const { studyAddress, studyOf } = await routerAt("/isthmus/");
  expect(studyAddress("1.2.3")).toBe("/isthmus/studies/1.2.3");
  expect(studyOf("/isthmus/studies/1.2.3")).toBe("1.2.3");
  expect(["/studies/1.2.3", "/other/studies/1.2.3", "/isthmus/", "/isthmus/studies/x"].map(studyOf)).toEqual(
    Array(4).fill(null),
  );
});
