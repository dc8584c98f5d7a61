/** Below a path that a proxy takes away: the sign-in link, the list, a study, a picture of it, and OHIF. */
import assert from "node:assert/strict";
import { LOGIN_URL, photograph, scenario, untilSeen } from "./browser.mjs";
import { dismissGreetings, image, listed, showsPixels } from "./ohif_page.mjs";

const { STUDY } = process.env;
const PREFIX = new URL(LOGIN_URL).pathname.replace(/login$/, "");

await scenario({ signedOut: true }, async (page) => {
  await page.goto(LOGIN_URL);
  await page.locator(".card").first().waitFor();
  assert.equal(new URL(page.url()).pathname, PREFIX);
  await page.waitForFunction(
    () => document.querySelector(".card img")?.naturalWidth > 0,
  );

  await page.locator(`.card a[href="${PREFIX}studies/${STUDY}"]`).click();
  await page.locator('.stage[data-state="ready"]').waitFor();
  await untilSeen(
    page,
    page.locator(".stage canvas"),
    ({ bright }) => bright > 0.05,
    "the image is black",
  );
  await page.reload();
  await page.locator('.stage[data-state="ready"]').waitFor();
  await photograph(page, "proxied-study");

  const link = page.getByRole("link", { name: "Open in OHIF" });
  await page.goto(new URL(await link.getAttribute("href"), page.url()).href);
  await image(page).waitFor();
  await dismissGreetings(page);
  await showsPixels(page, 0.05);
  await photograph(page, "proxied-ohif");
  await page.locator('[data-cy="return-to-work-list"]').click();
  assert.equal((await listed(page, 1)).length, 1);
  assert.ok(new URL(page.url()).pathname.startsWith(`${PREFIX}ohif`));
});
