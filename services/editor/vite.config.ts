import { defineConfig } from "vite";
import { licenses } from "./licenses.ts";

// Built into the Python package, which serves it without node. Paths are relative, so that it may live below any address.
export default defineConfig({
  base: "./",
  plugins: [licenses()],
  build: {
    outDir: "../headlift/web/static",
    emptyOutDir: true,
    target: "es2023",
    chunkSizeWarningLimit: 4000,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  // For `npx vite` next to a running `headlift serve --web`.
  server: { proxy: { "/api": { target: "http://localhost:8080", ws: true } } },
});
