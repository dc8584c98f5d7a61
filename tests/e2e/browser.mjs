/** What the browser scenarios share: a browser, a signed-in page that reports every error, and a look at pixels. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

const require = createRequire(
  new URL("../../viewer/package.json", import.meta.url),
);
const { chromium } = require("playwright-core");

export const { BASE_URL, LOGIN_URL, TOKEN, SCREENSHOTS } = process.env;
/** Where OHIF is served from: our server, or a web server of another origin. */
export const OHIF = process.env.OHIF ?? BASE_URL;

export const DESKTOP = { viewport: { width: 1440, height: 900 } };
export const PHONE = {
  viewport: { width: 390, height: 844 },
  hasTouch: true,
  isMobile: true,
  deviceScaleFactor: 2,
};

/** Rendering by the processor, and nothing that Chromium would do on its own. */
const ARGUMENTS = [
  "--no-sandbox",
  "--use-gl=angle",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];
const STUDY_UID = "0020000D";
const SERIES_UID = "0020000E";
const INSTANCES = "00201209";
const TIMEOUT_MS = 90_000;

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ARGUMENTS,
  });
}

/** Runs a scenario on a page of its own, signed in, and fails if the page reported an error. */
export async function scenario(options, steps) {
  const browser = await launch();
  const page = await (
    await browser.newContext({ ...DESKTOP, ...options })
  ).newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const errors = collectErrors(page);
  try {
    if (!options.signedOut) await signIn(page);
    await steps(page, errors);
    assert.deepEqual(errors, []);
  } catch (error) {
    await photograph(page, "failed").catch((problem) =>
      errors.push(`no picture: ${problem.message}`),
    );
    console.error(`at ${page.url()}\n${errors.join("\n")}`);
    throw error;
  } finally {
    await browser.close();
  }
}

/** Uncaught exceptions, errors on the console, requests to other hosts, and answers of 400 and above. */
function collectErrors(page) {
  const errors = [];
  page.on("pageerror", (error) => errors.push(`exception: ${error.message}`));
  page.on(
    "console",
    (message) =>
      message.type() === "error" && errors.push(`console: ${message.text()}`),
  );
  page.on(
    "response",
    (response) =>
      response.status() >= 400 &&
      errors.push(`${response.status()} ${response.url()}`),
  );
  page.on(
    "request",
    (request) =>
      /^https?:/.test(request.url()) &&
      ![BASE_URL, OHIF].includes(new URL(request.url()).origin) &&
      errors.push(`elsewhere: ${request.url()}`),
  );
  page.on("requestfailed", (request) => {
    const { errorText } = request.failure();
    // The page itself gave up on what it no longer needs.
    if (errorText !== "net::ERR_ABORTED")
      errors.push(`${errorText}: ${request.url()}`);
  });
  return errors;
}

async function signIn(page) {
  const answer = await page.request.post(`${BASE_URL}/login`, {
    form: { token: TOKEN },
  });
  assert.equal(answer.status(), 200);
}

export async function photograph(page, name) {
  if (SCREENSHOTS)
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
}

export async function getJson(page, address) {
  const answer = await page.request.get(BASE_URL + address);
  assert.equal(answer.status(), 200, address);
  return answer.json();
}

/** The CT study whose series is the smallest that a plugin accepts. */
export async function ctStudy(page) {
  const found = [];
  for (const { [STUDY_UID]: study } of await getJson(
    page,
    "/dicomweb/studies?ModalitiesInStudy=CT",
  )) {
    const uid = study.Value[0];
    const plugins = await getJson(page, `/api/v1/studies/${uid}/plugins`);
    const accepted = new Set(plugins.flatMap(({ series }) => series));
    const series = await getJson(
      page,
      `/dicomweb/studies/${uid}/series?includefield=${INSTANCES}`,
    );
    for (const entry of series.filter(({ [SERIES_UID]: own }) =>
      accepted.has(own.Value[0]),
    ))
      found.push({ uid, instances: entry[INSTANCES].Value[0] });
  }
  assert.ok(found.length > 0, "no study that a plugin accepts");
  return found.reduce((a, b) => (a.instances <= b.instances ? a : b)).uid;
}

/** The study's newest successful run of ct-bone; one is started where there is none. */
export async function boneRun(page, study) {
  const finished = async () =>
    (await getJson(page, `/api/v1/runs?study=${study}`)).runs.find(
      ({ state }) => state === "succeeded",
    );
  const known = await finished();
  if (known) return known;
  const plugins = await getJson(page, `/api/v1/studies/${study}/plugins`);
  const plugin = plugins.find(({ name }) => name === "ct-bone");
  const answer = await page.request.post(
    `${BASE_URL}/api/v1/plugins/${plugin.name}/runs`,
    {
      data: { study, series: plugin.series.slice(0, 1), parameters: {} },
    },
  );
  assert.equal(answer.status(), 202, await answer.text());
  return eventually(finished);
}

/** Waits until `holds` does. */
export async function until(holds, otherwise) {
  for (const end = Date.now() + TIMEOUT_MS; Date.now() < end; await pause(50)) {
    if (await holds()) return;
  }
  assert.fail(otherwise);
}

/** The first answer of `ask` that is not undefined. */
async function eventually(ask) {
  for (
    const end = Date.now() + 3 * TIMEOUT_MS;
    Date.now() < end;
    await pause(500)
  ) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  return assert.fail("nothing happened in time");
}

/** Waits until what an element shows is as `holds` wants it; gives the shares of its pixels. */
export async function untilSeen(page, element, holds, otherwise) {
  let seen;
  await until(async () => holds((seen = await look(page, element))), otherwise);
  return seen;
}

/** Where an element is on the page, once it has been laid out. */
export async function placed(element) {
  await element.waitFor();
  let box = null;
  await until(
    async () => (box = await element.boundingBox()),
    "an element that is seen has no place",
  );
  return box;
}

/**
 * Shares of the pixels in the middle of an element, as the screen shows them: brighter than black, coloured, red, blue.
 *
 * An element that has no place yet, or that the page moved while its picture was taken, shows nothing.
 */
async function look(page, element) {
  const clip = await middle(page, element);
  if (clip) {
    const picture = await page.screenshot({ clip, scale: "css" });
    if (isDeepStrictEqual(clip, await middle(page, element)))
      return shares(page, picture);
  }
  return { bright: 0, colored: 0, red: 0, blue: 0 };
}

/** The middle of an element as far as it is on the screen; null where nothing of it is. */
async function middle(page, element) {
  const box = await element.boundingBox();
  if (!box) return null;
  const screen = page.viewportSize();
  const [x, y] = [
    Math.max(box.x + box.width / 5, 0),
    Math.max(box.y + box.height / 5, 0),
  ];
  const width = Math.min(box.x + (box.width * 4) / 5, screen.width) - x;
  const height = Math.min(box.y + (box.height * 4) / 5, screen.height) - y;
  return width >= 1 && height >= 1 ? { x, y, width, height } : null;
}

/** What `look` says of a picture; the browser decodes it. */
function shares(page, picture) {
  return page.evaluate(async (encoded) => {
    const bytes = Uint8Array.from(atob(encoded), (character) =>
      character.charCodeAt(0),
    );
    const bitmap = await createImageBitmap(
      new Blob([bytes], { type: "image/png" }),
    );
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext(
      "2d",
    );
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const seen = { bright: 0, colored: 0, red: 0, blue: 0 };
    for (let at = 0; at < data.length; at += 4) {
      const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
      const high = Math.max(red, green, blue);
      seen.bright += high > 40;
      seen.colored += high - Math.min(red, green, blue) > 12 && high > 40;
      seen.red += red - blue > 60;
      seen.blue += blue - red > 60;
    }
    return Object.fromEntries(
      Object.entries(seen).map(([name, count]) => [
        name,
        (count * 4) / data.length,
      ]),
    );
  }, picture.toString("base64"));
}
