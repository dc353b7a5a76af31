/** The map: the world that came with the home, a reserve's own maps, and what is known of animals above them. */
import * as maplibre from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";
import { ageOf } from "../ages";
import { boot } from "../boot";
import { homeNow } from "../state";
import { t } from "../strings";
import type { Collar, Corridor, Live, LiveRanger, Trails, Zone } from "../types";
import { cellSize, span } from "../words";
import type { LayerName } from "../home";
import { addReserves } from "./reserves";
import { boundsOf, cell, collection, corners, grid, pathBands, predicted, trailLines, type Feature, type Pair } from "./shapes";
import { GROUPS, layersOf, palette } from "./style";

maplibre.setWorkerUrl(workerUrl);

export interface MapData {
  live: Live[] | null; trails: Trails | null; zones: Zone[]; corridors: Corridor[]; collars: Map<string, Collar>;
  selected: string | null; rangers?: LiveRanger[] | null;
}
export interface Doing { pick?: (animalId: string) => void; tap?: (at: Pair) => void; corner?: (n: number, to: Pair) => void }
const WORLD = ["land", "borders", "names"] as const;
/** Asked for while the engine is still being read. */
const world: Promise<Record<(typeof WORLD)[number], unknown>> = fetch("/app/world.json").then((answer) => answer.json());
world.catch(() => undefined); // whoever draws it says so
/** A small phone has three pixels to a dot of the page and a weak drawing chip: nobody sees the third. */
const MOST_PIXELS = 2;
/** How many widths the box tells whoever tests it. */
const BANDS_TOLD = 20;

/** Whether models have said nothing new: an event of a fix moves a marker and carries what they said before. */
const isExpectedAlike = (now: Live[], before: Live[]) =>
  now.length === before.length && now.every((each, n) => each.predictions === before[n]!.predictions);

export class MapView {
  private readonly map: maplibre.Map;
  private isReady = false;
  private hasFitted = false;
  private data: MapData | null = null;
  private drawn: Partial<MapData> = {};
  private off = new Set<LayerName>();
  private drawing: Feature[] = [];
  private readonly restyle = () => this.paint();

  constructor(private readonly box: HTMLElement, private readonly doing: Doing = {}) {
    this.map = new maplibre.Map({
      container: box,
      style: { version: 8, sources: {}, layers: [] },
      center: [25, 0],
      zoom: 2.6,
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      fadeDuration: 0,
      pixelRatio: Math.min(devicePixelRatio, MOST_PIXELS),
      renderWorldCopies: false,
      validateStyle: false, // the layers are our own; a test looks at each of them
      locale: { "Map.Title": t("map.title") },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.on("load", () => void this.begin());
    this.map.on("error", (event) => console.warn("map", event.error?.message));
    addEventListener("outpost-theme", this.restyle);
  }

  /**
   * The animals do not wait for the world beneath them, nor for a reserve's own maps. The map goes to where they are before
   * it has anything to draw: whatever it has is cut into tiles for each place and scale that it is shown at.
   */
  private begin(): void {
    if (this.data?.live?.length) { this.hasFitted = true; this.fit(false); }
    this.map.addLayer(layersOf(palette())[0]!);
    this.setShape("grid", collection([])); // a reserve's own maps lie below it
    if (boot.home === "cloud") {
      this.map.addSource("fixes", { type: "vector", tiles: [`${location.origin}/api/v1/tiles/fixes/{z}/{x}/{y}.mvt`], maxzoom: 16 }); // where none is left out
      this.addLayersOf("fixes");
    }
    this.map.on("click", (event) => this.tapped(event));
    this.map.on("moveend", () => this.drawGrid());
    this.listenForCorners();
    this.isReady = true;
    this.apply();
    this.drawGrid();
    this.setDrawing(this.drawing);
    void this.drawWorld().then(() => this.drawReserves()).then(() => {
      this.box.dataset.map = "ready";
      this.map.on("idle", () => this.drew());
      this.map.triggerRepaint();
    });
  }

  private async drawWorld(): Promise<void> {
    try {
      const found = await world;
      for (const name of WORLD) this.setShape(`world-${name}`, found[name]);
    } catch (error) {
      console.warn("map", "world", error); // animals on an empty map are better than none
    }
  }

  private async drawReserves(): Promise<void> {
    await addReserves(this.map, boot.maps, "grid-lines");
    this.showLayers();
  }

  /** The engine rests: everything that was asked for is on the screen. */
  private drew(): void {
    const seen = this.map.getLayer("animals-dot") ? this.map.queryRenderedFeatures({ layers: ["animals-dot"] }).length : 0;
    // it rests before the animals have come, too
    if (seen > 0 && !performance.getEntriesByName("map-drawn").length) performance.mark("map-drawn");
    this.box.dataset.drawn = String(seen);
  }

  /** What has nothing to show is no source of the map: an empty one is cut into tiles as well, at each place and scale. */
  private set(name: string, features: Feature[]): void {
    if (features.length > 0 || this.map.getSource(name)) this.setShape(name, collection(features));
  }

  private setShape(name: string, data: unknown): void {
    const source = this.map.getSource(name) as maplibre.GeoJSONSource | undefined;
    if (source) { source.setData(data as never); return; }
    this.map.addSource(name, { type: "geojson", data: data as never });
    this.addLayersOf(name);
  }

  /** Each layer goes where the list has it, whatever of the others is there by now. */
  private addLayersOf(source: string): void {
    const all = layersOf(palette());
    all.forEach((layer, n) => {
      if (!("source" in layer) || layer.source !== source) return;
      this.map.addLayer(layer, all.slice(n + 1).find((each) => this.map.getLayer(each.id))?.id);
    });
    this.showLayers();
  }

  draw(data: MapData): void {
    this.data = data;
    if (this.isReady) this.apply();
  }

  private apply(): void {
    const data = this.data;
    if (!data) return;
    const was = this.drawn;
    if (data.zones !== was.zones) this.set("zones", data.zones.filter((each) => each.is_active).map((each) => ({
      type: "Feature", properties: { id: each.id, name: each.name, risk: each.risk_level, kind: each.zone_type }, geometry: each.geometry })));
    if (data.corridors !== was.corridors) this.set("corridors", data.corridors.filter((each) => each.geometry).map((each) => ({
      type: "Feature", properties: { id: each.id, name: each.name, status: each.status }, geometry: each.geometry! })));
    if (data.trails !== was.trails) {
      const lines = data.trails ? trailLines(data.trails) : [];
      this.set("trails", lines);
      const states = lines.map((each) => String(each.properties.state));
      this.box.dataset.trails = JSON.stringify(Object.fromEntries([...new Set(states)].map((state) => [state, states.filter((each) => each === state).length])));
    }
    const animals = data.live ?? [];
    const isOther = data.live !== was.live;
    const isChosen = data.selected !== was.selected;
    if (isOther || isChosen || data.collars !== was.collars) this.set("animals", animals.filter((each) => each.current_position.lon !== null).map((each) => this.animal(each, data)));
    if (isOther) this.set("cells", animals.filter((each) => each.cell_deg !== null && each.current_position.lon !== null).map((each) => ({
      type: "Feature", properties: { name: cellSize(each.cell_deg!) },
      geometry: { type: "Polygon", coordinates: [cell(each.current_position.lon!, each.current_position.lat!, each.cell_deg!)] } })));
    // a marker that moves keeps what was expected of the animal until the models have seen the fix
    if (isChosen || (isOther && !isExpectedAlike(animals, was.live ?? [])))
      this.set("predictions", animals.flatMap((each) => predicted(each, each.animal_id === data.selected)));
    if (data.rangers !== was.rangers) this.set("rangers", (data.rangers ?? []).filter((each) => each.current_position).map((each) => ({
      type: "Feature", properties: { name: `${each.name}\n${span((each.age_s ?? 0) * 1000)}`, isAlarm: each.emergencies.length > 0 },
      geometry: { type: "Point", coordinates: [each.current_position!.lon, each.current_position!.lat] } })));
    if (data.trails !== was.trails || (isOther && !isExpectedAlike(animals, was.live ?? []))) {
      const bands = pathBands(data.trails, animals);
      this.set("paths", bands);
      this.box.dataset.paths = String(bands.length);
      this.box.dataset.pathDots = JSON.stringify(bands.slice(0, BANDS_TOLD).map((each) => each.properties.dots));
    }
    if (isChosen && data.selected) this.goTo(animals.find((each) => each.animal_id === data.selected));
    this.drawn = { ...data };
    this.box.dataset.animals = String(animals.length);
    this.box.dataset.rangers = String((data.rangers ?? []).filter((each) => each.current_position).length);
    if (!this.hasFitted && animals.length > 0) { this.hasFitted = true; this.fit(false); }
  }

  private animal(each: Live, data: MapData): Feature {
    const at = each.current_position;
    const ageMs = homeNow() - Date.parse(at.timestamp);
    const age = ageOf(ageMs, each.collar_id ? data.collars.get(each.collar_id) : undefined);
    const label = age === "fresh" ? each.name : `${each.name}\n${span(ageMs)}`;
    return {
      type: "Feature",
      properties: {
        id: each.animal_id, label, age, state: each.movement.behavior_state ?? "unknown",
        alarm: each.alerts.has_critical ? 2 : each.alerts.active_count > 0 ? 1 : 0, isChosen: each.animal_id === data.selected,
      },
      geometry: { type: "Point", coordinates: [at.lon!, at.lat!] },
    };
  }

  private tapped(event: maplibre.MapMouseEvent): void {
    if (this.doing.tap) return this.doing.tap([event.lngLat.lng, event.lngLat.lat]);
    const { x, y } = event.point;
    if (!this.map.getLayer("animals-dot")) return;
    const near = this.map.queryRenderedFeatures([[x - 12, y - 12], [x + 12, y + 12]], { layers: ["animals-dot"] });
    const id = near[0]?.properties.id as string | undefined;
    if (id) this.doing.pick?.(id);
  }

  private listenForCorners(): void {
    if (!this.doing.corner) return;
    this.map.on("mousedown", "drawing-corners", (event) => {
      const n = Number(event.features?.[0]?.properties.n ?? -1);
      if (n < 0) return;
      event.preventDefault();
      const move = (next: maplibre.MapMouseEvent) => this.doing.corner!(n, [next.lngLat.lng, next.lngLat.lat]);
      this.map.on("mousemove", move);
      this.map.once("mouseup", () => this.map.off("mousemove", move));
    });
  }

  setDrawing(features: Feature[]): void {
    this.drawing = features;
    if (this.isReady) this.set("drawing", features);
  }

  private drawGrid(): void {
    const b = this.map.getBounds();
    this.set("grid", this.off.has("grid") ? [] : grid(b.getWest(), b.getSouth(), b.getEast(), b.getNorth()));
  }

  show(off: Set<LayerName>): void {
    this.off = off;
    if (this.isReady) { this.showLayers(); this.drawGrid(); }
  }

  private showLayers(): void {
    for (const [group, names] of Object.entries(GROUPS))
      for (const name of names)
        if (this.map.getLayer(name)) this.map.setLayoutProperty(name, "visibility", this.off.has(group as LayerName) ? "none" : "visible");
    for (const layer of this.map.getStyle().layers) {
      const source = "source" in layer ? layer.source : "";
      if (source.startsWith("reserve-")) this.map.setLayoutProperty(layer.id, "visibility", this.off.has(source as LayerName) ? "none" : "visible");
    }
  }

  private paint(): void {
    if (!this.isReady) return;
    for (const layer of layersOf(palette()))
      for (const [key, value] of Object.entries("paint" in layer ? (layer.paint ?? {}) : {}))
        if (this.map.getLayer(layer.id)) this.map.setPaintProperty(layer.id, key as never, value as never);
  }

  zoom(by: number): void {
    this.map.zoomTo(this.map.getZoom() + by, { duration: 150 });
  }

  goTo(animal: Live | undefined): void {
    const at = animal?.current_position;
    if (at?.lon == null || at.lat === null) return;
    this.map.easeTo({ center: [at.lon, at.lat], zoom: Math.max(this.map.getZoom(), animal!.cell_deg ? 9 : 11), duration: 300 });
  }

  fit(isSlow = true): void {
    const points = (this.data?.live ?? []).flatMap((each): Pair[] =>
      each.current_position.lon === null ? [] : [[each.current_position.lon, each.current_position.lat!]]);
    this.fitTo(points.length ? points : (this.data?.zones ?? []).flatMap((each) => corners(each.geometry.coordinates)), isSlow);
  }

  fitTo(points: Pair[], isSlow = true): void {
    const bounds = boundsOf(points);
    if (bounds) this.map.fitBounds(bounds, { padding: 70, maxZoom: 12, duration: isSlow ? 300 : 0 });
  }

  remove(): void {
    removeEventListener("outpost-theme", this.restyle);
    this.map.remove();
  }
}
