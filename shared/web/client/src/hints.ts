// Hints of a home that something changed which is worth a pull: the event `sync` of its stream of events.
import { type Home, SyncRefused } from "./sync.ts";

const FIRST_PAUSE_MS = 3_000;
const LONGEST_PAUSE_MS = 5 * 60_000;

/**
 * Call `changed` when connected and whenever the home says that something changed, until `signal` ends it; connects again
 * after a pause. `home.fetch` must give bodies as streams: React Native's own does not, `expo/fetch` does.
 */
export async function listen(home: Home, changed: () => void, signal: AbortSignal): Promise<void> {
  let lastId = "";
  let pauseMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      for await (const event of events(home, lastId, signal)) {
        pauseMs = FIRST_PAUSE_MS;
        if (event.id) lastId = event.id;
        // `lost`: there is no telling what was missed; nothing: the connection stands, and what came before it is unknown
        if (["sync", "lost", ""].includes(event.name)) changed();
      }
    } catch (error) {
      if (error instanceof SyncRefused && [401, 403, 404].includes(error.status)) throw error;
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
    await new Promise<void>((done) => {
      const timer = setTimeout(done, pauseMs);
      signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
    });
  }
}

/** Yield the events of a home; the first, without a name, says that the connection stands. */
async function* events(home: Home, lastId: string, signal: AbortSignal): AsyncGenerator<{ id: string; name: string }> {
  const answer = await (home.fetch ?? fetch)(`${home.url}/api/v1/events`, {
    headers: { authorization: `Bearer ${await home.token()}`, ...(lastId && { "last-event-id": lastId }) },
    signal,
  });
  if (!answer.ok) throw new SyncRefused(answer.status, "error", answer.statusText);
  yield { id: "", name: "" };
  let waiting = "";
  const decoder = new TextDecoder();
  for await (const bytes of answer.body as unknown as AsyncIterable<Uint8Array>) {
    waiting += decoder.decode(bytes, { stream: true });
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop()!;
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      if (fields.has("event")) yield { id: fields.get("id") ?? "", name: fields.get("event")! };
    }
  }
}
