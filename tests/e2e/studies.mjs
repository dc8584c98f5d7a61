/** The list of studies: cards with pictures, search, modality, a dropped file. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import {
  BASE_URL,
  DESKTOP,
  PHONE,
  getJson,
  photograph,
  scenario,
  until,
} from "./browser.mjs";

for (const [name, device] of Object.entries({
  desktop: DESKTOP,
  phone: PHONE,
})) {
  await scenario(device, async (page) => {
    await page.goto(BASE_URL);
    const cards = page.locator(".card a");
    await cards.first().waitFor();
    const stored = await getJson(page, "/dicomweb/studies?limit=24");
    await until(
      async () => (await cards.count()) === stored.length,
      "not every study has a card",
    );
    await page.waitForFunction(
      () => document.querySelector(".card img")?.naturalWidth > 0,
    );
    assert.ok(
      await page.evaluate(
        () => document.documentElement.scrollWidth <= innerWidth,
      ),
      "the page is wider than the screen",
    );
    await page.waitForLoadState("load");
    await photograph(page, `studies-${name}`);
  });
}

await scenario({}, async (page) => {
  await page.goto(BASE_URL);
  await page.locator(".card").first().waitFor();
  await page.getByRole("radio", { name: "CT" }).check();
  await page.waitForURL(/modality=CT/);
  await page.waitForFunction(
    () =>
      document.querySelector(".card") &&
      [...document.querySelectorAll(".card")].every((card) =>
        card.textContent.includes("CT"),
      ),
  );

  const patient = await page.locator(".card-patient").first().textContent();
  await page.getByRole("searchbox").fill(patient.slice(0, 8));
  await page.waitForFunction(
    (name) =>
      document.querySelector(".card-patient") &&
      [...document.querySelectorAll(".card-patient")].every(
        ({ textContent }) => textContent === name,
      ),
    patient,
  );
  await page.getByRole("searchbox").fill("nothing is called so");
  await page.getByRole("heading", { name: "No study matches" }).waitFor();
  await page.getByRole("button", { name: "Show all studies" }).click();
  await page.locator(".card").first().waitFor();
});

await scenario({}, async (page) => {
  await page.goto(BASE_URL);
  await page.locator(".card").first().waitFor();
  const content = [...(await readFile(process.env.DICOM_FILE))];
  const transfer = await page.evaluateHandle((bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "image.dcm"));
    data.items.add(new File(["not DICOM"], "readme.txt"));
    return data;
  }, content);
  await page.dispatchEvent("body", "dragover", { dataTransfer: transfer });
  await page.getByText("Drop DICOM files or folders").waitFor();
  await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
  await page.getByRole("heading", { name: "1 object stored" }).waitFor();
  await page.getByText("1 file left out: not a readable DICOM file").waitFor();
  await photograph(page, "upload");
});
