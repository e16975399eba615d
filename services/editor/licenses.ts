// Licences of what is built into the bundle: minifying strips them, so the build writes them into one text beside it.
// The build fails on a package or crate whose licence is not known.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const HEAD = "../../deploy/notice-head.txt";
const NAME = "licenses.txt";
const RULE = "=".repeat(78);

// Rust crates that Spark compiles into its WebAssembly, by the licence that we take them under. Of those that offer
// a choice it is Apache-2.0, whose text is Headlift's own LICENSE; those with a holder have MIT alone.
const CRATES: Record<string, string> = {
  "anyhow": "Apache-2.0", "console_error_panic_hook": "Apache-2.0", "dlmalloc": "Apache-2.0", "fdeflate": "Apache-2.0",
  "hashbrown": "Apache-2.0", "image": "Apache-2.0", "image-webp": "Apache-2.0", "indexmap": "Apache-2.0", "js-sys": "Apache-2.0",
  "memchr": "MIT, Copyright (c) 2015 Andrew Gallant", "miniz_oxide": "Apache-2.0", "png": "Apache-2.0",
  "rustc-demangle": "Apache-2.0", "serde": "Apache-2.0", "serde-wasm-bindgen": "MIT, Copyright (c) Ingvar Stepanyan",
  "serde_core": "Apache-2.0", "serde_json": "Apache-2.0", "smallvec": "Apache-2.0", "wasm-bindgen": "Apache-2.0",
  "zip": "MIT, Copyright (c) 2014 Mathijs van de Nes and the zip-rs contributors", "zlib-rs": "Zlib, Copyright (c) Trifecta Tech Foundation",
};

interface Package { folder: string; name: string; version: string }

/** The package that a bundled module belongs to; null for modules of our own and of the bundler. */
function packageOf(id: string): Package | null {
  const found = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id.replaceAll("\\", "/"));
  return found ? read(found[1]) : null;
}

function read(folder: string): Package {
  const { name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return { folder, name, version };
}

/** What a package carries within its own files: packages by its dependencies, crates by the paths in its WebAssembly. */
function within(one: Package): Package[] {
  const { dependencies = {} } = JSON.parse(readFileSync(join(one.folder, "package.json"), "utf8"));
  return Object.keys(dependencies).map((name) => {
    const nested = join(one.folder, "node_modules", name);
    return read(existsSync(nested) ? nested : join(import.meta.dirname, "node_modules", name));
  });
}

function cratesIn(file: string): string[] {
  const code = readFileSync(file, "latin1");
  const modules = [...code.matchAll(/[A-Za-z0-9+/]{20000,}={0,2}/g)].map(([text]) => Buffer.from(text, "base64").toString("latin1"));
  const named = modules.flatMap((module) => [...module.matchAll(/([A-Za-z][\w-]*?)-(\d+\.\d+\.\d+)\/src/g)].map((m) => `${m[1]} ${m[2]}`));
  return [...new Set(named)].sort();
}

function licenseOf(one: Package): string {
  const file = readdirSync(one.folder).find((name) => /^licen[cs]e/i.test(name));
  if (!file) throw new Error(`${one.name} ${one.version} is built into the editor and carries no licence text.`);
  return readFileSync(join(one.folder, file), "utf8").trim();
}

function crateLines(crates: string[]): string {
  const lines = crates.map((crate) => {
    const license = CRATES[crate.split(" ")[0]];
    if (!license) throw new Error(`The crate ${crate} is built into the editor; add its licence to licenses.ts.`);
    return `  ${crate}: ${license}`;
  });
  return lines.length ? `\n\nIts WebAssembly holds these Rust crates and Rust's standard library (Apache-2.0, or MIT as above):\n${lines.join("\n")}` : "";
}

/** Writes licenses.txt. */
export function licenses(): Plugin {
  return {
    name: "licenses",
    generateBundle(_, bundle) {
      const packages = new Map<string, Package>();
      const crates = new Map<string, string[]>();
      const add = (one: Package): void => {
        if (packages.has(one.name)) return;
        packages.set(one.name, one);
        within(one).forEach(add);
      };
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const id of Object.keys(chunk.modules)) {
          const one = packageOf(id);
          if (!one) continue;
          add(one);
          crates.set(one.name, [...new Set([...(crates.get(one.name) ?? []), ...cratesIn(id.split("?")[0])])]);
        }
      }
      const texts = [...packages.values()].sort((a, b) => a.name.localeCompare(b.name)).map((one) =>
        `\n\n${RULE}\n${one.name} ${one.version} (built into the editor)\n${RULE}\n\n${licenseOf(one)}${crateLines(crates.get(one.name) ?? [])}`);
      const head = readFileSync(join(import.meta.dirname, HEAD), "utf8").trimEnd();
      this.emitFile({ type: "asset", fileName: NAME, source: `${head}${texts.join("")}\n` });
    },
  };
}
