/**
 * Fetches the built OHIF viewer into viewer/ohif and lets it be served from anywhere. Does nothing when it is there.
 *
 * Only the package itself is fetched: its dependencies are inside its bundles. The download is checked against the
 * digest below before anything of it is read. Left out: source maps, the service worker and its precache list (both
 * load code from other hosts), and ort/, the runtime of a segmentation model that OHIF would load from another host.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { precompress } from "./precompress.mjs";

const PACKAGE = "@ohif/app@3.13.2"; // MIT
const SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==";
const LEFT_OUT = ["*.map", "*/ort", "*/sw.js", "*/init-service-worker.js", "*/google.js", "*/oidc-client.min.js"];

/**
 * What ties the build to the root path: [files, pattern, replacement]. Each must match somewhere. The server makes the
 * addresses of the page, `"./…"`, those of the folder that it serves, PUBLIC_URL among them; workers know their own.
 */
const RELOCATIONS = [
  [/\.js$/, /(__webpack_require__\.p = )"\/";/g, '$1self.PUBLIC_URL ?? new URL("./", self.location).href;'],
  [/^app\.bundle\..*\.js$/, /'\/dicom-microscopy-viewer\//g, "window.PUBLIC_URL + 'dicom-microscopy-viewer/"],
  [/\.css$/, /url\(\/(?!\/)/g, "url("],
  [/^manifest\.json$/, /"\/assets\//g, '"assets/'],
  [/^index\.html$/, /PUBLIC_URL="\/"/g, 'PUBLIC_URL="./"'],
  [/^index\.html$/, /\b(href|src|content)="\/(?!\/)/g, '$1="./'],
  [/^index\.html$/, /<script[^>]*init-service-worker\.js"><\/script>/g, ""],
];

const run = promisify(execFile);
const viewer = path.dirname(import.meta.dirname);
const target = path.join(viewer, "ohif");

if ((await stamp(target)) === (await version())) {
  console.log(`${PACKAGE} is in place`);
} else {
  await fetchOhif();
  console.log(`${PACKAGE} fetched into ${path.relative(process.cwd(), target)}`);
}

async function fetchOhif() {
  const scratch = await mkdtemp(path.join(viewer, ".ohif-"));
  try {
    const archive = await download(scratch);
    await run("tar", [
      "-xzf",
      archive,
      "-C",
      scratch,
      ...LEFT_OUT.map((name) => `--exclude=${name}`),
      "package/dist",
      "package/LICENSE",
    ]);
    const dist = path.join(scratch, "package", "dist");
    await rename(path.join(scratch, "package", "LICENSE"), path.join(dist, "LICENSE"));
    await relocate(dist);
    await precompress(dist, 5);
    await writeFile(path.join(dist, ".stamp"), await version());
    await rm(target, { recursive: true, force: true });
    await rename(dist, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Downloads the package with the registry that npm is set up for, and checks it. */
async function download(folder) {
  const { stdout } = await run("npm", ["pack", PACKAGE, "--json", "--pack-destination", folder], {
    maxBuffer: 1 << 26,
  });
  const archive = path.join(folder, JSON.parse(stdout)[0].filename);
  const digest = createHash("sha512")
    .update(await readFile(archive))
    .digest("base64");
  if (digest !== SHA512) throw new Error(`${PACKAGE} is not the package that was reviewed: sha512 ${digest}`);
  return archive;
}

async function relocate(dist) {
  const names = await readdir(dist);
  for (const [files, pattern, replacement] of RELOCATIONS) {
    let matches = 0;
    for (const name of names.filter((candidate) => files.test(candidate))) {
      const file = path.join(dist, name);
      const text = await readFile(file, "utf8");
      const moved = text.replace(pattern, replacement);
      if (moved !== text) {
        matches += 1;
        await writeFile(file, moved);
      }
    }
    if (matches === 0) throw new Error(`${PACKAGE} is laid out in another way: nothing matches ${pattern}`);
  }
}

/** What a finished folder was made from: the package and this script. */
async function version() {
  const script = createHash("sha256")
    .update(await readFile(import.meta.filename))
    .digest("hex");
  return `${PACKAGE} ${SHA512} ${script}\n`;
}

async function stamp(folder) {
  return readFile(path.join(folder, ".stamp"), "utf8").catch(() => "");
}
