// Never run: the compiler holds what this package says of a home against the home's own description.
import type { Answer, Clash, Enrolled, Home, Item, Message } from "../src/index.ts";
import { call } from "../src/index.ts";
import type { AnswerOf } from "../src/api.ts";
import type { PullAnswer, PushAnswer, TableChanges } from "../src/sync.ts";

type Pulled = AnswerOf<"/api/v1/sync/pull", "get">;
type Pushed = AnswerOf<"/api/v1/sync/push", "post">;
type Uploaded = AnswerOf<"/api/v1/sync/upload", "post">;

export function same(pulled: Pulled, pushed: Pushed, uploaded: Uploaded): void {
  const { changes, ...page }: Pulled = pulled;
  const shown: Omit<PullAnswer, "changes"> = page;
  const messages: Message[] = page.messages;
  const tables: Record<string, Pick<TableChanges, "deleted">> = changes;
  const answer: PushAnswer = pushed;
  const clashes: Clash[] = pushed.conflicts;
  const done: Omit<Answer, "id_map"> = uploaded;
  const ids: Record<string, Record<string, string>> = uploaded.id_map;
  void [shown, messages, tables, answer, clashes, done, ids];
}

export async function typed(home: Home, item: Item): Promise<void> {
  const found = await call(home, "get", "/api/v1/animals", { query: { search: "Saba" } });
  const name: string | undefined = found.results[0]?.name;
  const one = await call(home, "get", "/api/v1/animals/{animal_id}", { path: { animal_id: item.local_id } });
  const rev: number = one.rev;
  const enrolled: Enrolled = await call(home, "post", "/api/v1/phones/enrol", {
    body: { code: "", public_key: "", signature: "", name: "phone" },
  });
  // @ts-expect-error there is no such path
  await call(home, "get", "/api/v1/elephants");
  // @ts-expect-error nor such a column
  void one.trunk;
  // @ts-expect-error nor is a note a number
  await call(home, "post", "/api/v1/alerts/{alert_id}/note", { path: { alert_id: "a" }, body: { note: 5 } });
  void [name, rev, enrolled];
}
