// Bundles the page into dist/, from where the Go package embeds it: index.html, and what it names in
// dist/assets/, each file compressed.
import {build} from "esbuild"
import {mkdir, readFile, rm, writeFile} from "node:fs/promises"
import {basename} from "node:path"
import {gzipSync} from "node:zlib"

const dist = new URL("dist/", import.meta.url)
await rm(new URL("assets/", dist), {recursive: true, force: true})
await rm(new URL("index.html.gz", dist), {force: true})
const result = await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: ["src/main.ts", "src/style.css"],
  entryNames: "[name]-[hash]",
  outdir: "dist/assets",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  write: false,
  metafile: true,
})
await mkdir(new URL("assets/", dist), {recursive: true})
let page = await readFile(new URL("src/index.html", import.meta.url), "utf8")
let size = 0
const keep = async (path, text) => {
  const packed = gzipSync(text, {level: 9})
  size += packed.length
  await writeFile(new URL(path + ".gz", dist), packed)
}
for (const file of result.outputFiles) {
  const name = basename(file.path)
  page = page.replace(name.endsWith(".js") ? "main.ts" : "style.css", "console/" + name)
  await keep("assets/" + name, file.contents)
}
await keep("index.html", page)
console.log(`the page: ${(size / 1000).toFixed(1)} kB compressed`)
