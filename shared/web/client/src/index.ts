export { COLUMNS, READ_ONLY, schema } from "./schema.ts";
export { modelClasses } from "./models.ts";
export { conflictResolver, edited, parts, pull, sync, SyncRefused } from "./sync.ts";
export type { Clash, Home, Message, Options } from "./sync.ts";
export { CHUNK, chunks, pauseMs, upload, uploadWhenConnected, wrong } from "./upload.ts";
export type { Answer, Item, Kind, Pending, Rows } from "./upload.ts";
export { PART_BYTES, photoUrl, sendPhotos } from "./photos.ts";
export type { Photo, Photos } from "./photos.ts";
export { listen } from "./hints.ts";
