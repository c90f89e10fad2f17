// Bundles the module and its worker into dist, with onnxruntime's own files and everybody's licence beside them.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const runtime = "node_modules/onnxruntime-web/dist";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
await build({
  entryPoints: { "conch-web": "src/index.ts", worker: "src/worker.ts" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  sourcemap: "external",
  sourcesContent: false,
  // The build of onnxruntime-web that finds its glue and its WebAssembly beside it, and holds neither.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  legalComments: "none",
});
for (const kind of ["mjs", "wasm"]) {
  copyFileSync(`${runtime}/ort-wasm-simd-threaded.${kind}`, `dist/ort-wasm-simd-threaded.${kind}`);
}
const licences = ["onnxruntime-web", "@huggingface/tokenizers"].map((name) => {
  const { version, license, homepage, repository } = JSON.parse(
    readFileSync(`node_modules/${name}/package.json`, "utf8"),
  );
  return `${name} ${version}: ${license}, ${homepage ?? repository.url}`;
});
writeFileSync("dist/LICENSES.txt", `conch-web: Apache-2.0\n${licences.join("\n")}\n`);
