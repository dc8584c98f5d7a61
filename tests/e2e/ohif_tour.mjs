/** A reader's way through OHIF: images, SEG, RTSTRUCT, SR, PDF, MPR, the study list with its filters, an upload. */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import {
  BASE_URL,
  OHIF,
  TOKEN,
  photograph,
  scenario,
  until,
  untilSeen,
} from "./browser.mjs";
import {
  agree,
  dismissGreetings,
  filtered,
  image,
  listed,
  openImages,
  openObject,
  showsPixels,
} from "./ohif_page.mjs";

const { STUDY, SLICES, UPLOAD, UPLOADED } = process.env;
const OWN_ORIGIN = OHIF === BASE_URL;
const PREFIX = OWN_ORIGIN ? "own" : "other";
/** The filters of the study list, by their place in its row. */
const FILTERS = { patient: 0, start: 1, end: 2, description: 4 };

// A cookie of ours does not reach a page of another origin: there OHIF sends the token from its address.
await scenario({ signedOut: !OWN_ORIGIN }, async (page) => {
  const frames = new Set();
  page.on("response", (response) => {
    const found = /\/instances\/([0-9.]+)\/frames\/1$/.exec(response.url());
    if (found && response.ok()) frames.add(found[1]);
  });
  const token = OWN_ORIGIN ? "" : `&token=${TOKEN}`;
  await page.goto(`${OHIF}/ohif/viewer?StudyInstanceUIDs=${STUDY}${token}`);
  await image(page).waitFor();
  assert.ok(
    await page.evaluate(() => crossOriginIsolated),
    "OHIF has no SharedArrayBuffer",
  );
  await dismissGreetings(page);

  await showsImages(page, frames);
  await showsObjects(page);
  await showsPlanes(page);
  await listsStudies(page);
  await uploads(page);
});

async function showsImages(page, frames) {
  await showsPixels(page, 0.05);
  await page.waitForFunction(
    () =>
      document.querySelector('[data-cy="study-browser-thumbnail"] img')
        ?.naturalWidth > 0,
  );
  await image(page).hover();
  for (let slice = 1; slice < SLICES; slice += 1) {
    await page.mouse.wheel(0, 120);
    await page.getByText(`(${slice + 1}/${SLICES})`).waitFor();
  }
  await until(
    () => frames.size === Number(SLICES),
    "not every slice was fetched",
  );
  await showsPixels(page, 0.02);
}

async function showsObjects(page) {
  await openObject(page, "RTSTRUCT");
  await drawn(page, "red", "RTSTRUCT");
  await agree(page, "Do you want to open this Segmentation?");
  await photograph(page, `ohif-${PREFIX}-rtstruct`);

  await openImages(page);
  await openObject(page, "SEG");
  await drawn(page, "blue", "SEG");
  await agree(page, "Do you want to open this Segmentation?");
  await drawn(page, "blue", "SEG");
  await photograph(page, `ohif-${PREFIX}-seg`);

  await openImages(page);
  await openObject(page, "SR");
  await agree(page, "Do you want to continue tracking measurements");
  await page
    .locator("svg text", { hasText: /^[\d.]+ mm$/ })
    .first()
    .waitFor();
  await photograph(page, `ohif-${PREFIX}-sr`);

  await openImages(page);
  await openObject(page, "DOC");
  const document = page.locator('object[type="application/pdf"][data]');
  await document.waitFor();
  const start = await page.evaluate(
    async (address) => (await (await fetch(address)).text()).slice(0, 5),
    await document.getAttribute("data"),
  );
  assert.equal(start, "%PDF-");
  await untilSeen(
    page,
    document,
    ({ bright }) => bright > 0.3,
    "OHIF does not show the page of the PDF",
  );
  await photograph(page, `ohif-${PREFIX}-pdf`);
}

/** Waits until `what` is drawn over the grey image in the colour that it asks for. */
async function drawn(page, color, what) {
  await untilSeen(
    page,
    image(page),
    (shares) => shares[color] > 0.001,
    `OHIF does not draw the ${what}`,
  );
}

async function showsPlanes(page) {
  await openImages(page);
  await page.locator('[data-cy="Layout"]').click();
  await page.getByText("MPR", { exact: true }).first().click();
  const planes = page.locator("canvas.cornerstone-canvas");
  await until(
    async () => (await planes.count()) === 3,
    "MPR does not show three planes",
  );
  for (const plane of [0, 1, 2])
    await untilSeen(
      page,
      planes.nth(plane),
      ({ bright }) => bright > 0.005,
      `plane ${plane} of MPR is black`,
    );
  await page.locator('[data-cy="Crosshairs"]').click();
  await page.locator("svg line").first().waitFor({ state: "attached" });
  await photograph(page, `ohif-${PREFIX}-mpr`);
}

async function listsStudies(page) {
  await page.locator('[data-cy="return-to-work-list"]').click();
  const all = await page.waitForFunction(() => {
    const rows = document.querySelectorAll("tbody tr").length - 1;
    return rows >= 2 && rows;
  });
  const count = await all.jsonValue();

  for (const text of ["anz", "panza, san"]) {
    const filter = { column: FILTERS.patient, text, expected: 1 };
    assert.match((await filtered(page, filter))[0], /Panza, Sancho/);
    await listed(page, count);
  }
  const [byDescription] = await filtered(page, {
    column: FILTERS.description,
    text: "PHANTOM",
    expected: 1,
  });
  assert.match(byDescription, /Phantom, Sphere/);
  await listed(page, count);

  await page.locator("tbody input").nth(FILTERS.start).fill("2020-01-01");
  const [byDate] = await filtered(page, {
    column: FILTERS.end,
    text: "2020-12-31",
    expected: 1,
  });
  assert.match(byDate, /02-Jan-2020/);
  await page.keyboard.press("Escape");
  await listed(page, count);

  await page.locator('[aria-label="Filter Modalities"]').fill("MR");
  await page.keyboard.press("Enter");
  const [byModality] = await listed(page, 1);
  assert.match(byModality, /MR HEAD/);
  await page.keyboard.press("Escape");
  await page.locator('[aria-label="Reset filters"]').click();
  await listed(page, count);

  await page.locator('[aria-label="Sort Patient"]').click();
  await until(async () => {
    const rows = (await listed(page, count)).map((row) => row.trim());
    return isDeepStrictEqual(rows, rows.toSorted());
  }, "the list is not sorted by patient");
  await photograph(page, `ohif-${PREFIX}-list`);

  if (!OWN_ORIGIN) return; // an address loads the page again, without the token
  await page.goto(`${OHIF}/ohif/?mrn=MRN-2`);
  const [byPatientId] = await listed(page, 1);
  assert.match(byPatientId, /Panza, Sancho/);
}

async function uploads(page) {
  await page.getByText("Upload", { exact: true }).click();
  await page
    .locator('[role="dialog"] input[type="file"]')
    .first()
    .setInputFiles(UPLOAD);
  await photograph(page, `ohif-${PREFIX}-upload`);
  await until(async () => {
    const answer = await page.request.get(
      `${BASE_URL}/dicomweb/studies?PatientID=${UPLOADED}`,
      { headers: { Authorization: `Bearer ${TOKEN}` } },
    );
    return (await answer.json()).length === 1;
  }, "what OHIF uploaded is not in the archive");
  await page.getByText("1 file completed").waitFor();
  await photograph(page, `ohif-${PREFIX}-uploaded`);
}
