/** OHIF under /ohif/: it shows the study's images, lists what a plugin added, and shows the segmentation. */
import assert from "node:assert/strict";
import {
  BASE_URL,
  boneRun,
  ctStudy,
  photograph,
  scenario,
  untilSeen,
} from "./browser.mjs";
import { dismissGreetings, image, showsPixels } from "./ohif_page.mjs";

await scenario({}, async (page) => {
  const study = await ctStudy(page);
  await boneRun(page, study);
  await page.goto(`${BASE_URL}/studies/${study}`);
  const link = page.getByRole("link", { name: "Open in OHIF" });
  assert.equal(
    await link.getAttribute("href"),
    `/ohif/viewer?StudyInstanceUIDs=${study}`,
  );

  await page.goto(`${BASE_URL}/ohif/viewer?StudyInstanceUIDs=${study}`);
  await image(page).waitFor();
  assert.ok(
    await page.evaluate(() => crossOriginIsolated),
    "OHIF has no SharedArrayBuffer",
  );
  await dismissGreetings(page);
  await page.waitForFunction(() => document.body.innerText.includes("1/"));
  await showsPixels(page, 0.05);
  await page.getByText("SEG", { exact: true }).first().waitFor();
  await photograph(page, "ohif");

  await page.getByText("SEG", { exact: true }).first().dblclick();
  await untilSeen(
    page,
    image(page),
    ({ colored }) => colored > 0.001,
    "OHIF does not show the segmentation",
  );
  await photograph(page, "ohif-segmentation");

  await page.goto(`${BASE_URL}/ohif/`);
  await page.getByText("Study List").first().waitFor();
  await page.locator("tbody tr, [role=row]").nth(1).waitFor();
  await photograph(page, "ohif-list");
});
