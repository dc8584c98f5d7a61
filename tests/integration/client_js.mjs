/**
 * dicomweb-client for JavaScript in a page of Chromium, called from outside: one call as JSON per line on stdin, its
 * outcome as JSON per line on stdout. Bytes travel as {"base64": …}.
 */
import readline from "node:readline";
import { launch } from "../e2e/browser.mjs";

const { PAGE, DICOMWEB, TOKEN, LIBRARY } = process.env;

const browser = await launch();
const page = await browser.newPage();
const said = [];
page.on("console", (message) => message.type() === "error" && said.push(message.text()));
page.on("pageerror", (error) => said.push(error.message));
await page.goto(PAGE);
await page.addScriptTag({ path: LIBRARY });
await page.evaluate(prepare);

for await (const line of readline.createInterface({ input: process.stdin })) {
  const outcome = await page.evaluate((call) => window.run(call), {
    ...JSON.parse(line),
    client: { url: DICOMWEB, headers: { Authorization: `Bearer ${TOKEN}` }, verbose: false, ...JSON.parse(line).client },
  });
  console.log(JSON.stringify({ ...outcome, console: said.splice(0) }));
}
await browser.close();

/** Runs in the page: gives it the function `run`. */
function prepare() {
  const bytesOf = ({ base64 }) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
  const readable = async (value) => {
    if (value instanceof ArrayBuffer) {
      const reader = new FileReader();
      reader.readAsDataURL(new Blob([value]));
      await new Promise((resolve) => (reader.onload = resolve));
      return { base64: reader.result.split(",")[1] ?? "" };
    }
    return Array.isArray(value) ? Promise.all(value.map(readable)) : value;
  };
  window.run = async ({ client, method, options }) => {
    if (options.datasets) options.datasets = options.datasets.map(bytesOf);
    try {
      const answer = await new window.DICOMwebClient.api.DICOMwebClient(client)[method](options);
      return { answer: await readable(answer) };
    } catch (error) {
      return { error: error.message, status: error.status ?? 0 };
    }
  };
}
