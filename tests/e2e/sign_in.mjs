/** Without a session the application asks for one; the printed link works once, a token as often as it is typed. */
import assert from "node:assert/strict";
import {
  BASE_URL,
  LOGIN_URL,
  TOKEN,
  photograph,
  scenario,
} from "./browser.mjs";

await scenario({ signedOut: true }, async (page, errors) => {
  await page.goto(BASE_URL);
  await page.getByRole("heading", { name: "Sign in to Isthmus" }).waitFor();
  await photograph(page, "sign-in");
  assert.ok(
    errors.every((error) => error.includes("401")),
    errors.join("\n"),
  );

  await page.getByLabel("Or enter an access token").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This token is not valid").waitFor();

  await page.getByLabel("Or enter an access token").fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".card").first().waitFor();

  await page.context().clearCookies();
  await page.goto(LOGIN_URL);
  await page.locator(".card").first().waitFor();

  await page.context().clearCookies();
  await page.goto(LOGIN_URL);
  await page.getByText("This link was used before").waitFor();
  errors.length = 0; // the refusals above are what was asked for
});
