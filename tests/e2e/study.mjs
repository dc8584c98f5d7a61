/** One study: its images, a plugin run from the form to its results, the segmentation above the images, the 3D model. */
import assert from "node:assert/strict";
import {
  BASE_URL,
  PHONE,
  boneRun,
  ctStudy,
  photograph,
  placed,
  scenario,
  until,
  untilSeen,
} from "./browser.mjs";

const READY = '.stage[data-state="ready"]';

await scenario({}, async (page) => {
  const study = await ctStudy(page);
  await page.goto(`${BASE_URL}/studies/${study}`);
  await page.locator(READY).waitFor();
  const canvas = page.locator(".stage canvas");
  const { colored } = await untilSeen(
    page,
    canvas,
    ({ bright }) => bright > 0.05,
    "the image is black",
  );
  assert.ok(colored < 0.01, `the image is not grey: ${colored}`);
  await photograph(page, "images");

  await canvas.focus();
  const slice = () => page.locator(".stage-facts").first().textContent();
  const before = await slice();
  await page.keyboard.press("ArrowDown");
  await until(
    async () => (await slice()) !== before,
    "the next slice is not shown",
  );
  await canvas.hover();
  await page.mouse.wheel(0, 180);
  await page.getByRole("button", { name: "Lung" }).click();
  await page.getByText("W 1500 L -600").waitFor();
  await page.getByRole("button", { name: "Reset" }).click();

  const form = page.locator(".plugin-form");
  await form.waitFor();
  const number = form.locator('input[type="number"]').first();
  const initial = await number.inputValue();
  await number.fill("999999");
  await form.locator(".problem").waitFor();
  await form.getByRole("button", { name: /^Run/ }).click();
  assert.equal(
    await page.locator(".run").count(),
    0,
    "an invalid form was sent",
  );
  await number.fill(initial);
  await form.getByRole("button", { name: /^Run/ }).click();

  await page.waitForFunction(
    () => document.querySelector(".run progress")?.value > 0,
  );
  await photograph(page, "running");
  await page
    .locator('.run[data-state="succeeded"]')
    .waitFor({ timeout: 240_000 });
  await page.locator(".measurements tr").first().waitFor();
  await page.locator(".segments label").first().waitFor();
  await page.waitForFunction(() =>
    document.querySelector('.series [aria-pressed="true"]'),
  );
  await canvas.focus();
  await untilSeen(
    page,
    canvas,
    (now) => now.colored > 0.001,
    "the segmentation is not seen on the images",
  );
  await photograph(page, "results");

  await page.getByText("Parameters and log").click();
  await page.waitForFunction(
    () => document.querySelector(".log")?.textContent.length > 20,
  );

  await page.locator(".outputs").getByRole("button", { name: /3D/ }).click();
  await page.locator(`.stage-mesh[data-state="ready"]`).waitFor();
  await seen(page, page.locator("x3d-canvas"));
  await photograph(page, "mesh-anterior");
  await page
    .getByRole("button", { name: "Left" })
    .waitFor({ state: "attached" });
  const cube = () => page.locator(".cube-body").getAttribute("style");
  const anterior = await cube();
  await page.locator(".cube button", { hasText: "L" }).dispatchEvent("click");
  await until(
    async () => (await cube()) !== anterior,
    "the 3D model does not turn to the left",
  );
  await seen(page, page.locator("x3d-canvas"));
  await photograph(page, "mesh-left");

  const left = await cube();
  await fling(page, page.locator("x3d-canvas"));
  await until(
    async () => (await cube()) !== left,
    "the 3D model does not follow the pointer",
  );
  await atRest(page);
});

await scenario(PHONE, async (page) => {
  const study = await ctStudy(page);
  const run = await boneRun(page, study);
  await page.goto(`${BASE_URL}/studies/${study}`);
  await page.locator(READY).waitFor();
  await untilSeen(
    page,
    page.locator(".stage canvas"),
    ({ bright }) => bright > 0.05,
    "the image is black",
  );
  assert.ok(
    await page.evaluate(
      () => document.documentElement.scrollWidth <= innerWidth,
    ),
    "the page is wider than the screen",
  );
  await photograph(page, "images-phone");
  const mesh = run.outputs.find(({ kind }) => kind === "mesh");
  await page.goto(`${BASE_URL}/studies/${study}?mesh=${mesh.url}`);
  await page.locator(`.stage-mesh[data-state="ready"]`).waitFor();
  await seen(page, page.locator("x3d-canvas"));
  await photograph(page, "mesh-phone");
});

/** Drags across an element and lets go while moving. */
async function fling(page, element) {
  const { x, y, width, height } = await placed(element);
  const middle = y + height / 2;
  await page.mouse.move(x + width / 3, middle);
  await page.mouse.down();
  await page.mouse.move(x + (width * 2) / 3, middle + 40, { steps: 8 });
  await page.mouse.up();
}

/** Waits until the 3D model has kept its orientation for a second. */
async function atRest(page) {
  await page.waitForFunction(
    () => {
      const body = document.querySelector(".cube-body");
      if (!body) return false;
      const before = body.dataset.seen;
      body.dataset.seen = body.getAttribute("style");
      return body.dataset.seen === before;
    },
    null,
    { polling: 1000 },
  );
}

/** Waits until the 3D model has been drawn: rendering without a GPU takes its time. */
function seen(page, element) {
  return untilSeen(
    page,
    element,
    ({ colored }) => colored > 0.02,
    "the 3D model is not seen",
  );
}
