/** Photographs: brought in parts under the hash of their bytes, shown small. */
import { useState } from "preact/hooks";
import { putPart } from "./api";
import { t } from "./strings";

const PART_BYTES = 512 * 1024;
const OURS = /^\/api\/v1\/blobs\/[0-9a-f]{64}\/?$/;

async function nameOf(bytes: ArrayBuffer): Promise<string> {
  // browsers give it to pages that came encrypted, or from this machine
  if (!globalThis.crypto?.subtle) throw new Error(t("photo.insecure"));
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((each) => each.toString(16).padStart(2, "0")).join("");
}

/** Bring a photograph to this home and return where it is; what came already is not sent again from its beginning. */
export async function bring(file: File, told: (share: number) => void): Promise<string> {
  const bytes = await file.arrayBuffer();
  const path = `/api/v1/blobs/${await nameOf(bytes)}`;
  for (let offset = 0; offset < bytes.byteLength; offset += PART_BYTES) {
    await putPart(`${path}/?size=${bytes.byteLength}&offset=${offset}`, bytes.slice(offset, offset + PART_BYTES), file.type);
    told(Math.min(1, (offset + PART_BYTES) / bytes.byteLength));
  }
  return path;
}

/** A photograph that this home keeps; one of elsewhere is named and not fetched. */
export function Photo({ url }: { url: string | null }) {
  if (!url) return null;
  if (!OURS.test(url)) return url.startsWith("/") ? <img class="photo" src={url} alt={t("observation.photo")} /> : <p class="quiet">{url}</p>;
  const path = url.replace(/\/$/, "");
  return <a href={`${path}/`}><img class="photo" src={`${path}/thumbnail/`} alt={t("observation.photo")} loading="lazy" /></a>;
}

export function PhotoField({ url, change }: { url: string | null; change: (url: string) => void }) {
  const [said, setSaid] = useState("");
  const take = async (file: File) => {
    try {
      change(await bring(file, (share) => setSaid(`${Math.round(100 * share)} %`)));
      setSaid(t("photo.here"));
    } catch (error) { setSaid(error instanceof Error ? error.message : String(error)); }
  };
  return (
    <div class="wide"><Photo url={url} />
      <label class="button">{t("photo.add")}<input class="hidden" type="file" accept="image/jpeg,image/png,image/webp" onChange={(event) => {
        const file = event.currentTarget.files?.[0];
        event.currentTarget.value = "";
        if (file) void take(file);
      }} /></label> <span role="status">{said}</span></div>
  );
}
