// Enrolment of a phone by a QR code, and logging in again by its own key after months away.
//
// The app makes an Ed25519 key in the phone's key store and never shows its private half; here it is asked to sign. What
// the QR code says of the home's certificate (`sha256`) is what the app pins before it sends anything.
import { SyncRefused } from "./sync.ts";

export type Invitation = { url: string; home: string; code: string; sha256: string | null };
export type Key = {
  /** The public half, 32 bytes in hex digits. */
  publicKey: string;
  /** An Ed25519 signature of UTF-8 text, in hex digits. */
  sign(text: string): Promise<string> | string;
};
export type Enrolled = {
  phone: { id: string; user_id: string; name: string };
  home: string;
  user: { id: string; name: string; role: string };
  tokens: { access: string; refresh: string };
};

/** Read what a QR code says; null where it is none of ours. */
export function readInvitation(text: string): Invitation | null {
  const [link, query = ""] = text.split("?", 2) as [string, string?];
  if (link !== "outpost://enrol") return null;
  const said = new Map(query.split("&").map((pair) => pair.split("=", 2).map(plain) as [string, string]));
  const [url, home, code] = ["url", "home", "code"].map((name) => said.get(name));
  if (said.get("v") !== "1" || !url || !home || !code) return null;
  return { url, home, code, sha256: said.get("sha256") ?? null };
}

const plain = (text: string): string => decodeURIComponent(text.replaceAll("+", " "));

/** What a phone signs to enrol. */
export function enrolmentText(invitation: Invitation, publicKey: string): string {
  const code = invitation.code.replaceAll(/[\s-]/g, "").toUpperCase();
  return `outpost phone enrol\n${invitation.home}\n${code}\n${publicKey}`;
}

/** What a phone signs to log in; `counter` is above that of every login before. */
export function loginText(home: string, phoneId: string, counter: number): string {
  return `outpost phone login\n${home}\n${phoneId}\n${counter}`;
}

/** Give the code and the key; `phone.id` is the `deviceId` from then on. May be called again where no answer came. */
export async function enrol(invitation: Invitation, key: Key, name: string, with_ = fetch): Promise<Enrolled> {
  const signature = await key.sign(enrolmentText(invitation, key.publicKey));
  const body = { code: invitation.code, public_key: key.publicKey, signature, name };
  return (await post(`${invitation.url}/api/v1/phones/enrol`, body, with_)) as Enrolled;
}

/** Log in by the key alone (rangers and viewers); keep `counter` before calling, and go above it next time. */
export async function loginByKey(
  url: string, home: string, phoneId: string, counter: number, key: Key, with_ = fetch,
): Promise<Enrolled["tokens"]> {
  const signature = await key.sign(loginText(home, phoneId, counter));
  const answer = await post(`${url}/api/v1/phones/${phoneId}/login`, { counter, signature }, with_);
  return (answer as { tokens: Enrolled["tokens"] }).tokens;
}

async function post(address: string, body: unknown, with_: typeof fetch): Promise<unknown> {
  let answer: Response;
  try {
    answer = await with_(address, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
  } catch (error) {
    throw new SyncRefused(0, "unreachable", `the home does not answer: ${String(error)}`);
  }
  const said = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
  if (!answer.ok) throw new SyncRefused(answer.status, said.code ?? "error", said.detail ?? answer.statusText);
  return said;
}
