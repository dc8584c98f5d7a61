import { readFile } from "node:fs/promises";
import path from "node:path";
import { defineConfig } from "vitest/config";

/** The gateway that `npm run dev` passes requests on to. */
const GATEWAY = "http://127.0.0.1:8042";

/** Files that X_ITE fetches by name from beside its own module. */
const X_ITE_FILES = ["x_ite.css", "assets/components/Geometry3DComponent.js"];

function xIteFiles() {
  return {
    name: "x-ite-files",
    async generateBundle() {
      for (const name of X_ITE_FILES) {
        const source = await readFile(path.join(import.meta.dirname, "node_modules/x_ite/dist", name));
        this.emitFile({ type: "asset", fileName: `assets/${name}`, source });
      }
    },
  };
}

export default defineConfig({
  plugins: [xIteFiles()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
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
