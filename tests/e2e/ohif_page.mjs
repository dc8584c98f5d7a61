/** OHIF 3.13 as a user meets it: its list of studies, its series, its dialogs. */
import { untilSeen } from "./browser.mjs";

/** OHIF greets new users twice; what it says covers the image, and one of the two the other. */
export async function dismissGreetings(page) {
  for (const name of ["Confirm and hide", "Skip all"])
    await page.getByRole("button", { name }).dispatchEvent("click");
  await page
    .locator(".shepherd-modal-is-visible")
    .waitFor({ state: "detached" });
}

export const image = (page) =>
  page.locator("canvas.cornerstone-canvas").first();

/** Waits until more than a share of the first viewport is not black. */
export function showsPixels(page, share) {
  return untilSeen(
    page,
    image(page),
    ({ bright }) => bright > share,
    "OHIF shows no pixels",
  );
}

/** Opens a series by a double click in the list at the left; `modality` is one of an object that has no picture. */
export async function openObject(page, modality) {
  await page
    .locator('[data-cy="study-browser-thumbnail-no-image"]', {
      hasText: modality,
    })
    .dblclick();
}

/** Opens the first series of images and waits until it is seen. */
export async function openImages(page) {
  await page.locator('[data-cy="study-browser-thumbnail"]').first().dblclick();
  await showsPixels(page, 0.02);
}

/** Answers what OHIF asks about a derived object before it takes it over. */
export async function agree(page, question) {
  await page.getByText(question).waitFor();
  await page.getByRole("button", { name: "Yes", exact: true }).click();
  await page.getByText(question).waitFor({ state: "detached" });
}

/** The texts of the rows of the study list, once `expected` of them are shown. */
export async function listed(page, expected) {
  const texts = await page.waitForFunction((count) => {
    const rows = [...document.querySelectorAll("tbody tr")].slice(1);
    return (
      rows.filter((row) => row.cells.length > 1).length === count &&
      rows.map((row) => row.innerText)
    );
  }, expected);
  return texts.jsonValue();
}

/** Types into a filter of the study list, and gives the rows that it leaves. */
export async function filtered(page, { column, text, expected }) {
  await page
    .locator("tbody tr")
    .first()
    .locator("input")
    .nth(column)
    .fill(text);
  const rows = await listed(page, expected);
  await page.locator('[aria-label="Reset filters"]').click();
  return rows;
}
