import { readFile } from "node:fs/promises";
import path from "node:path";
import { defineConfig } from "vitest/config";

/** The gateway that `npm run dev` passes requests on to. */
const GATEWAY = "http://127.0.0.1:8042";

/** What X_ITE fetches by name from beside its own module: the name that it asks for, and the file that it gets. */
const X_ITE_FILES = {
  "x_ite.css": "src/styles/x_ite.css",
  "assets/components/Geometry3DComponent.js": "node_modules/x_ite/dist/assets/components/Geometry3DComponent.js",
  "assets/lib/mikktspace_bg.wasm": "node_modules/x_ite/dist/assets/lib/mikktspace_bg.wasm",
};

function xIteFiles() {
  return {
    name: "x-ite-files",
    async generateBundle() {
      for (const [name, file] of Object.entries(X_ITE_FILES)) {
        const source = await readFile(path.join(import.meta.dirname, file));
        this.emitFile({ type: "asset", fileName: `assets/${name}`, source });
      }
    },
  };
}

export default defineConfig({
  // Relative: the server tells the page where it is served.
  base: "./",
  plugins: [xIteFiles()],
  build: {
    target: "es2022",
    // X_ITE is one module of 1.4 MB, loaded when the first 3D model is opened.
    chunkSizeWarningLimit: 1600,
    assetsInlineLimit: 0,
  },
  server: {
    proxy: Object.fromEntries(["/api", "/dicomweb", "/login", "/ohif"].map((path) => [path, GATEWAY])),
  },
  test: { include: ["tests/**/*.test.ts"] },
});
