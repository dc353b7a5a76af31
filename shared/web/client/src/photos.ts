// The queue of photographs. A row names its photograph by the hash of its bytes (`photoUrl`), so it may be synced before
// the photograph has come, and the address means the same at every home. Photographs come after rows, in parts; what a
// home has of one it says itself, so nothing is sent twice, whichever home it is and whenever the app is ended.
import { type Home, SyncRefused } from "./sync.ts";

export type Photo = {
  /** The SHA-256 of its bytes in hex digits, lower case. */
  sha256: string;
  size: number;
  mediaType: "image/jpeg" | "image/png" | "image/webp" | "image/heic";
  /** Bytes from `first` to before `end`; the whole need not be in memory. */
  read(first: number, end: number): Promise<Uint8Array> | Uint8Array;
};

/** What the app's own storage does for the queue. */
export type Photos = {
  /** Photographs that no home is known to have, the oldest first. */
  waiting(): Promise<Photo[]>;
  /** Note that a home has it whole; the app may then delete its file. */
  stored(sha256: string): Promise<void>;
  /** Keep what is wrong with one that no home takes; it is not tried again. */
  failed(sha256: string, message: string): Promise<void>;
};

export const PART_BYTES = 256 << 10;
/** A file that arrives damaged is begun anew so often. */
const TRIES = 3;

/** What a row's `photo_url` says of a photograph; put `home.url` before it to look at it, `/thumbnail` behind it. */
export function photoUrl(sha256: string): string {
  return `/api/v1/blobs/${sha256}`;
}

/** Send what waits to a home, one after the other; throws where it does not answer, and goes on there next time. */
export async function sendPhotos(
  home: Home,
  photos: Photos,
  told: (sha256: string, sent: number, size: number) => void = () => {},
): Promise<number> {
  let done = 0;
  for (const photo of await photos.waiting()) {
    try {
      await send(home, photo, (sent) => told(photo.sha256, sent, photo.size));
    } catch (error) {
      // what this home will never take must not keep those behind it
      if (!(error instanceof SyncRefused) || ![400, 413, 422].includes(error.status)) throw error;
      await photos.failed(photo.sha256, error.message);
      continue;
    }
    await photos.stored(photo.sha256);
    done += 1;
  }
  return done;
}

async function send(home: Home, photo: Photo, told: (sent: number) => void): Promise<void> {
  let sent = await howFar(home, photo);
  let damaged = 0;
  while (sent < photo.size) {
    const part = await photo.read(sent, Math.min(sent + PART_BYTES, photo.size));
    const asked = new URLSearchParams({ offset: String(sent), size: String(photo.size) });
    const answer = await ask(home, "PUT", `${photoUrl(photo.sha256)}?${asked}`, part, photo.mediaType);
    if (answer.status === 422 && ++damaged < TRIES) {
      sent = 0; // damaged on the way: the home has thrown it away
    } else if (answer.status === 409) {
      // another way was faster; where nothing moves, the home says why
      const known = await howFar(home, photo);
      if (known === sent) throw await refusal(answer);
      sent = known;
    } else {
      if (!answer.ok) throw await refusal(answer);
      sent = ((await answer.json()) as { received: number }).received;
    }
    told(sent);
  }
}

/** Ask a home how much of a photograph it has. */
async function howFar(home: Home, photo: Photo): Promise<number> {
  const answer = await ask(home, "HEAD", photoUrl(photo.sha256));
  if (answer.status === 404) return 0;
  if (!answer.ok) throw await refusal(answer);
  return Number(answer.headers.get("upload-offset") ?? 0);
}

async function ask(home: Home, method: string, path: string, body?: Uint8Array, type?: string): Promise<Response> {
  try {
    return await (home.fetch ?? fetch)(`${home.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${await home.token()}`, ...(type && { "content-type": type }) },
      ...(body && { body: body as NonNullable<RequestInit["body"]> }),
    });
  } catch (error) {
    throw new SyncRefused(0, "unreachable", `the home does not answer: ${String(error)}`);
  }
}

async function refusal(answer: Response): Promise<SyncRefused> {
  const said = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
  return new SyncRefused(answer.status, said.code ?? "error", said.detail ?? answer.statusText);
}
