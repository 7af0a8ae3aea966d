// Bundles each widget family into rtwidgets/static/: one small ESM and one CSS file.
//
//   node build.mjs           write the bundles
//   node build.mjs --check   fail unless the committed bundles equal a fresh build, byte for byte
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, "src");
const target = join(here, "..", "rtwidgets", "static");
const families = (await readdir(join(source, "widgets"))).filter((name) => name.endsWith(".ts")).map((name) => name.slice(0, -3)).sort();

/** A hash over every source, in the order of their names: what a bundle's stamp says it was made from. */
async function sourceHash() {
  const names = (await readdir(source, { recursive: true })).filter((name) => /\.(ts|css)$/.test(name)).map((name) => name.replaceAll("\\", "/")).sort();
  const hash = createHash("sha256");
  for (const name of [...names, "../package-lock.json"]) {
    hash.update(`${name}\0`).update(await readFile(join(source, name), "utf8")).update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}

/** Bytes: a page gets a widget's whole module with every instance. */
const MOST = 150 * 1024;

const stamp = `/* generated from js/src by js/build.mjs, sha256:${await sourceHash()}; do not edit */`;
const built = new Map();
for (const family of families) {
  for (const [file, entry] of [[`${family}.js`, `widgets/${family}.ts`], [`${family}.css`, `widgets/${family}.css`]]) {
    const made = await build({
      entryPoints: [join(source, entry)],
      bundle: true,
      minify: true,
      write: false,
      format: "esm",
      target: "es2022",
      legalComments: "eof",
      charset: "utf8",
      // UMD dependencies would register with Notebook's AMD loader instead of exporting.
      define: { "define.amd": "false" },
      banner: { [file.endsWith(".css") ? "css" : "js"]: stamp },
    });
    built.set(file, made.outputFiles[0].text);
  }
}

if (process.argv.includes("--check")) {
  const stale = [];
  for (const [file, text] of built) {
    const there = await readFile(join(target, file), "utf8").catch(() => null);
    if (there !== text) stale.push(file);
  }
  const left = (await readdir(target).catch(() => [])).filter((name) => !built.has(name));
  if (stale.length || left.length) {
    console.error(`rtwidgets/static is not what js/src gives (${[...stale, ...left].join(", ")}): run \`make js\` and commit the result`);
    process.exit(1);
  }
} else {
  await mkdir(target, { recursive: true });
  for (const [file, text] of built) await writeFile(join(target, file), text);
}
for (const [file, text] of built) {
  const size = Buffer.byteLength(text);
  console.log(`${file.padEnd(14)} ${(size / 1024).toFixed(1).padStart(6)} kB`);
  if (size > MOST) {
    console.error(`${file} is larger than ${MOST / 1024} kB`);
    process.exitCode = 1;
  }
}
