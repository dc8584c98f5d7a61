/** Writes .br and .gz beside every text file of a folder, so that the server sends bytes it need not compress. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const COMPRESSIBLE = new Set([".css", ".html", ".js", ".json", ".jsonc", ".mjs", ".svg", ".wasm"]);
const MIN_BYTES = 1024;

/**
 * @param {string} folder
 * @param {number} quality brotli quality: 11 for small bundles, 5 where tens of megabytes wait
 * @returns {Promise<number>} how many files were compressed
 */
export async function precompress(folder, quality) {
  const brotliOptions = { params: { [constants.BROTLI_PARAM_QUALITY]: quality } };
  let count = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !COMPRESSIBLE.has(path.extname(entry.name))) continue;
    const file = path.join(entry.parentPath, entry.name);
    const content = await readFile(file);
    if (content.length < MIN_BYTES) continue;
    await writeFile(`${file}.br`, await promisify(brotliCompress)(content, brotliOptions));
    await writeFile(`${file}.gz`, await promisify(gzip)(content, { level: 9 }));
    count += 1;
  }
  return count;
}

if (process.argv[1] === import.meta.filename) {
  const count = await precompress(process.argv[2] ?? "dist", 11);
  console.log(`precompressed ${count} files`);
}
