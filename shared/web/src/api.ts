/** Asks the home. The session is in cookies that no script reads; what is written carries the page's own token. */
import { t } from "./strings";

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, detail: string) {
    super(detail);
  }
}
export interface Paged<T> { count: number; next: string | null; results: T[] }

const REFRESHED = "outpost_refreshed";
/** Access tokens live 15 minutes; tabs take turns, because a refresh token that comes twice ends its session. */
const REFRESH_MS = 11 * 60_000;

const csrf = () => /(?:^|; )outpost_csrf=([^;]+)/.exec(document.cookie)?.[1] ?? "";
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

let refreshing: Promise<boolean> | null = null;
export function refresh(): Promise<boolean> {
  refreshing ??= renewed().finally(() => { refreshing = null; });
  return refreshing;
}
async function renewed(): Promise<boolean> {
  await wait(Math.random() * 400);
  if (Date.now() - Number(localStorage.getItem(REFRESHED)) < 20_000) return true;
  localStorage.setItem(REFRESHED, String(Date.now()));
  const answer = await fetch("/api/v1/auth/refresh/", { method: "POST" }).catch(() => null);
  return answer?.ok ?? false;
}
export function keepLoggedIn(): void {
  setInterval(() => void refresh(), REFRESH_MS + Math.random() * 60_000);
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init);
  } catch {
    throw new ApiError(0, "unreachable", t("error.unreachable"));
  }
}

export async function call<T>(method: string, path: string, body?: unknown, again = true): Promise<T> {
  const headers: Record<string, string> = {};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const init: RequestInit = { method, headers };
  if (body !== undefined) init.body = JSON.stringify(body);
  const answer = await ask(path, init);
  if (answer.status === 401 && again) {
    if (await refresh()) return call(method, path, body, false);
    location.reload();
  }
  if (answer.status === 204) return undefined as T;
  const text = await answer.text();
  if (answer.ok) return (text ? JSON.parse(text) : undefined) as T;
  let said = { code: "error", detail: answer.statusText };
  try { said = JSON.parse(text); } catch { /* a proxy between says what it likes */ }
  throw new ApiError(answer.status, said.code, said.detail);
}

/** Bring a part of a file. */
export async function putPart(path: string, part: ArrayBuffer, mediaType: string): Promise<void> {
  const answer = await ask(path, { method: "PUT", headers: { "X-CSRF-Token": csrf(), "Content-Type": mediaType }, body: part });
  if (answer.ok) return;
  const said = (await answer.json().catch(() => ({ code: "error", detail: answer.statusText }))) as { code: string; detail: string };
  throw new ApiError(answer.status, said.code, said.detail);
}

export const get = <T,>(path: string) => call<T>("GET", path);
export const post = <T,>(path: string, body?: unknown) => call<T>("POST", path, body ?? {});

/** Return every row of a list; a page of five hundred at a time. */
export async function all<T>(path: string): Promise<T[]> {
  const rows: T[] = [];
  for (let page = 1; ; page++) {
    const found = await get<Paged<T>>(`${path}${path.includes("?") ? "&" : "?"}page_size=500&page=${page}`);
    rows.push(...found.results);
    if (!found.next) return rows;
  }
}

/** Do what may ask for a second factor: where it does, it is asked for and the same is done again. */
export async function withFactor<T>(act: () => Promise<T>, askCode: () => Promise<string | null>): Promise<T | null> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "factor_required") throw error;
  }
  const code = (await askCode())?.replace(/\s/g, "");
  if (!code) return null;
  await post("/api/v1/auth/factor/", /^\d+$/.test(code) ? { otp_code: code } : { recovery_code: code });
  return act();
}
