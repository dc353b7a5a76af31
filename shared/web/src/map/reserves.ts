/** A reserve's own maps: every `.pmtiles` file in the home's folder, pictures as they are, vectors by the names of their layers. */
import * as maplibre from "maplibre-gl";
import { PMTiles, Protocol, TileType } from "pmtiles";
import { palette } from "./style";

const OVERLAY = /hillshade|ndvi/i;
let protocol: Protocol | null = null;

export async function addReserves(map: maplibre.Map, names: string[], before: string): Promise<void> {
  if (names.length === 0) return;
  if (!protocol) {
    protocol = new Protocol();
    maplibre.addProtocol("pmtiles", protocol.tile);
  }
  // what is half transparent lies over what is not
  const ordered = [...names].sort((a, b) => Number(OVERLAY.test(a)) - Number(OVERLAY.test(b)));
  const files = await Promise.all(ordered.map((name) => opened(name)));
  for (const found of files) {
    if (!found) continue;
    const { name, url, isVector } = found;
    const source = `reserve-${name}`;
    if (isVector) {
      map.addSource(source, { type: "vector", url: `pmtiles://${url}` });
      for (const layer of vectorLayers(source)) map.addLayer(layer, before);
    } else {
      map.addSource(source, { type: "raster", url: `pmtiles://${url}`, tileSize: 256 });
      map.addLayer({ id: source, type: "raster", source, paint: { "raster-opacity": OVERLAY.test(name) ? 0.5 : 1 } }, before);
    }
  }
}

/** Read a file's header; null where it is damaged, which must not take the map with it. */
async function opened(name: string): Promise<{ name: string; url: string; isVector: boolean } | null> {
  const url = `${location.origin}/basemap/${name}`;
  const file = new PMTiles(url);
  protocol?.add(file);
  try {
    return { name, url, isVector: (await file.getHeader()).tileType === TileType.Mvt };
  } catch (error) {
    console.warn("map", name, error);
    return null;
  }
}

/** Layers of the common schemas (Protomaps, OpenMapTiles, Shortbread), drawn quietly. */
function vectorLayers(source: string): maplibre.LayerSpecification[] {
  const p = palette();
  const of = (id: string, type: "fill" | "line", layer: string, paint: object, minzoom = 0) =>
    ({ id: `${source}-${id}`, type, source, "source-layer": layer, paint, minzoom }) as maplibre.LayerSpecification;
  return [
    of("earth", "fill", "earth", { "fill-color": p.land }),
    ...["landuse", "landcover", "land"].map((each) => of(each, "fill", each, { "fill-color": p.green, "fill-opacity": 0.35 })),
    ...["water", "ocean", "water_polygons"].map((each) => of(each, "fill", each, { "fill-color": p.water })),
    ...["waterway", "water_lines"].map((each) => of(each, "line", each, { "line-color": p.water, "line-width": 1.2 })),
    ...["roads", "transportation", "streets"].map((each) => of(each, "line", each, { "line-color": p.road, "line-width": 1 }, 7)),
    ...["boundaries", "boundary"].map((each) => of(each, "line", each, { "line-color": p.border, "line-dasharray": [3, 2] })),
    ...["buildings", "building"].map((each) => of(each, "fill", each, { "fill-color": p.road, "fill-opacity": 0.6 }, 12)),
    ...["places", "place", "place_labels"].map((each) => ({
      id: `${source}-${each}`, type: "symbol", source, "source-layer": each,
      layout: { "text-field": ["coalesce", ["get", "name"], ""], "text-size": 12, "text-font": ["sans-serif"] },
      paint: { "text-color": p.quiet, "text-halo-color": p.halo, "text-halo-width": 1.2 },
    }) as maplibre.LayerSpecification),
  ];
}
