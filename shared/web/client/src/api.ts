// The rest of a home's API, typed by its own description: `npm run api -- openapi.json` makes `home.gen.ts` of what a home
// serves at /api/schema/openapi.json.
//
//   const { results } = await call(home, "get", "/api/v1/animals", { query: { search: "Saba" } });
import type { paths } from "./home.gen.ts";
import { type Home, SyncRefused } from "./sync.ts";

type Method = "get" | "post" | "put" | "patch" | "delete";
/** The paths that know a method. */
export type PathOf<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, object> ? P : never;
}[keyof paths];
type Operation<P extends keyof paths, M extends Method> = paths[P][M & keyof paths[P]];
type Json<R> = R extends { content: { "application/json": infer T } } ? T : undefined;
/** What a home answers. */
export type AnswerOf<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { responses: infer R }
    ? R extends { 200: infer A } ? Json<A> : R extends { 201: infer A } ? Json<A> : undefined
    : never;
type Parameters<P extends keyof paths, M extends Method> = Operation<P, M> extends { parameters: infer A } ? A : never;
type Part<A, K extends string> = A extends { [_ in K]: infer V } ? V : A extends { [_ in K]?: infer V } ? V : never;
type Body<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { requestBody?: infer B } ? (B extends { content: { "application/json": infer T } } ? T : never) : never;

/** What is asked: the parts of the path, the query, the body. */
export type Asked<P extends keyof paths, M extends Method> = {
  path?: Part<Parameters<P, M>, "path">;
  query?: Part<Parameters<P, M>, "query">;
  body?: Body<P, M>;
};

/** Ask a home; throws SyncRefused with its code and reason. */
export async function call<M extends Method, P extends PathOf<M>>(
  home: Home, method: M, path: P, asked: Asked<P, M> = {},
): Promise<AnswerOf<P, M>> {
  const named = (asked.path ?? {}) as Record<string, string>;
  const filled = String(path).replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(named[name] ?? ""));
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries((asked.query ?? {}) as Record<string, unknown>)) {
    if (value !== undefined && value !== null) query.set(name, String(value));
  }
  let answer: Response;
  try {
    answer = await (home.fetch ?? fetch)(`${home.url}${filled}${query.size ? `?${query}` : ""}`, {
      method: method.toUpperCase(),
      headers: {
        authorization: `Bearer ${await home.token()}`,
        ...(asked.body !== undefined && { "content-type": "application/json" }),
      },
      ...(asked.body !== undefined && { body: JSON.stringify(asked.body) }),
    });
  } catch (error) {
    throw new SyncRefused(0, "unreachable", `the home does not answer: ${String(error)}`);
  }
  const said = (await answer.json().catch(() => undefined)) as { code?: string; detail?: string } | undefined;
  if (!answer.ok) throw new SyncRefused(answer.status, said?.code ?? "error", said?.detail ?? answer.statusText);
  return said as AnswerOf<P, M>;
}
