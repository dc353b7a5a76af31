// Builds the pages into dist/: the application (Vite), the world's map (Natural Earth through world-atlas), packed copies.
import { build } from "vite";
import { createRequire } from "node:module";
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { gzipSync, constants } from "node:zlib";
import { feature, mesh } from "topojson-client";

const here = import.meta.dirname;
const require = createRequire(import.meta.url);

await build({
  root: here,
  configFile: false,
  base: "/app/",
  logLevel: "warn",
  publicDir: false,
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    assetsDir: "",
    assetsInlineLimit: 0, // a data: address is not of this home
    manifest: "manifest.json",
    modulePreload: { polyfill: false },
    target: "es2022",
    chunkSizeWarningLimit: 2000,
    rollupOptions: { input: { station: `${here}/src/station.tsx`, cloud: `${here}/src/cloud.tsx` } },
  },
});

// --- the world: coast, borders, names; coordinates to a hundredth of a degree, which is what a map of 1:50 million holds
const atlas = JSON.parse(readFileSync(require.resolve("world-atlas/countries-50m.json"), "utf8"));
const rounded = (part) => (typeof part === "number" ? Math.round(part * 100) / 100 : part.map(rounded));
const slim = (geometry) => ({ type: geometry.type, coordinates: rounded(geometry.coordinates) });
const land = feature(atlas, atlas.objects.land).features.map((each) => ({
  type: "Feature", properties: {}, geometry: slim(each.geometry),
}));
const borders = mesh(atlas, atlas.objects.countries, (a, b) => a !== b);
const names = feature(atlas, atlas.objects.countries).features.map((each) => {
  const rings = each.geometry.type === "Polygon" ? [each.geometry.coordinates[0]] : each.geometry.coordinates.map((p) => p[0]);
  const [place, area] = rings.map(centre).reduce((best, next) => (next[1] > best[1] ? next : best));
  return { type: "Feature", properties: { name: each.properties.name, area: Math.round(area * 10) / 10 },
    geometry: { type: "Point", coordinates: rounded(place) } };
});
/** Centre of mass of a ring, and its area in square degrees. */
function centre(ring) {
  let [area, x, y] = [0, 0, 0];
  for (let n = 0; n + 1 < ring.length; n++) {
    const cross = ring[n][0] * ring[n + 1][1] - ring[n + 1][0] * ring[n][1];
    area += cross; x += (ring[n][0] + ring[n + 1][0]) * cross; y += (ring[n][1] + ring[n + 1][1]) * cross;
  }
  return area === 0 ? [ring[0], 0] : [[x / (3 * area), y / (3 * area)], Math.abs(area) / 2];
}
const collection = (features) => ({ type: "FeatureCollection", features });
const dist = `${here}/dist`;
writeFileSync(`${dist}/world.json`, JSON.stringify({
  land: collection(land), borders: { type: "Feature", properties: {}, geometry: slim(borders) }, names: collection(names),
}));

// --- licences of what the built files hold
const licences = ["maplibre-gl", "pmtiles", "preact", "qrcode-generator", "uplot", "world-atlas"].map((name) => {
  const folder = `${here}/node_modules/${name}`;
  const files = readdirSync(folder).filter((each) => /^(licen[cs]e|notice|copying)/i.test(each));
  const facts = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const words = files.map((each) => readFileSync(`${folder}/${each}`, "utf8")).join("\n");
  return `=== ${name} ${facts.version} (${facts.license})\n\n${words}\n`;
});
licences.push("=== Natural Earth\n\nMade with Natural Earth, in the public domain.\n");
writeFileSync(`${dist}/LICENSES.txt`, licences.join("\n"));

// --- packed copies, and how large they are
const sizes = {};
for (const name of readdirSync(dist).sort()) {
  if (!/\.(m?js|css|json)$/.test(name) || name === "manifest.json") continue;
  const packed = gzipSync(readFileSync(`${dist}/${name}`), { level: constants.Z_BEST_COMPRESSION });
  writeFileSync(`${dist}/${name}.gz`, packed);
  sizes[name] = { bytes: statSync(`${dist}/${name}`).size, gzip: packed.length };
}
if (process.argv.includes("--sizes")) console.log(JSON.stringify(sizes, null, 2));
writeFileSync(`${dist}/.done`, "");
