// Requests: the token, the countdown of 429 and 503, the log-in that a 401 asks for, and the curl of each request.
import { useEffect, useReducer } from "./preact.js";

const base = new URL("..", import.meta.url); // where the API is mounted
// the token is in this variable and nowhere else; groups is null when the server does not tell them
export const session = { token: null, user: null, id: null, groups: null, until: 0, ask: null, note: null, model: null };
const watchers = new Set();
let written = null; // where the last write ends: what is read later shall not be older

export function tell(change) {
  Object.assign(session, change);
  watchers.forEach((poke) => poke());
}

export function useSession() {
  const [, poke] = useReducer((n) => n + 1, 0);
  useEffect(() => (watchers.add(poke), () => watchers.delete(poke)), []);
  return session;
}

export const note = (text) => tell({ note: { text } });

const inUtf8 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

// request: {op, at: path variables, query, body, type, etag, known, key, accept, count, password, otp}
function prepare({ op, at = {}, query = {}, body, type, etag, known, key, accept, count, password, otp }) {
  const path = op.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(at[name] ?? ""));
  const url = new URL(path.slice(1), base);
  for (const [name, value] of Object.entries(query)) if (value !== "" && value != null) url.searchParams.set(name, value);
  const headers = {};
  if (password != null) headers.Authorization = `Basic ${inUtf8(`${session.user}:${password}`)}`;
  else if (session.token) headers.Authorization = `Bearer ${session.token}`;
  if (otp) headers["X-OTP"] = otp;
  if (accept) headers.Accept = accept;
  if (count) headers.Prefer = "count=exact";
  if (etag && op.headers.has("if-match")) headers["If-Match"] = etag;
  if (known) headers["If-None-Match"] = known;
  if (key && op.headers.has("idempotency-key")) headers["Idempotency-Key"] = key;
  if (written && op.headers.has("consistency-token")) headers["Consistency-Token"] = written;
  if (body !== undefined) headers["Content-Type"] = type ?? "application/json";
  return { url, method: op.method.toUpperCase(), headers, body: body === undefined || type ? body : JSON.stringify(body) };
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export async function send(request) {
  for (;;) {
    const { url, ...options } = prepare(request);
    let answer, text;
    try {
      // without credentials of the browser's own: else it asks for a password itself, and keeps a cookie
      answer = await fetch(url, { ...options, credentials: "omit" });
      text = await answer.text();
      written = answer.headers.get("Consistency-Token") ?? written;
    } catch {
      return { status: 0, ok: false, error: "The server does not answer.", faults: [], retry: 0 };
    }
    const retry = [429, 503].includes(answer.status) ? Number(answer.headers.get("Retry-After") ?? 0) : 0;
    if (answer.status === 401 && !request.own && request.password == null && !request.quiet) {
      if (await signIn(session.token ? "Your log-in is over. Log in to go on: nothing is lost." : "")) continue;
    } else if (retry && options.method === "GET" && !request.quiet) {
      tell({ until: Date.now() + retry * 1000 });
      await sleep(retry);
      tell({ until: 0 });
      continue;
    }
    return understood(answer, text, retry);
  }
}

function understood(answer, text, retry) {
  const data = /json/.test(answer.headers.get("Content-Type")) ? JSON.parse(text || "null") : text;
  const links = [...(answer.headers.get("Link") ?? "").matchAll(/<([^>]*)>; *rel="?(\w+)/g)];
  const pages = links.map(([, url, rel]) => [rel, new URL(url, answer.url).searchParams]);
  return {
    status: answer.status, ok: answer.ok, data, retry, etag: answer.headers.get("ETag"), pages: Object.fromEntries(pages),
    total: answer.headers.get("Content-Range")?.split("/")[1], replayed: answer.headers.has("Idempotency-Replayed"),
    error: answer.ok ? null : data?.error ?? `The server answers ${answer.status}.`, code: data?.code,
    faults: (data?.errors ?? []).map(({ field, message }) => ({ field, message: message.replace(`parameter "${field}" `, "") })),
  };
}

let asking = null;
export function signIn(why) {
  asking ??= new Promise((done) => tell({ ask: { why, done } })).finally(() => ((asking = null), tell({ ask: null })));
  return asking;
}

export async function enter(body) {
  const answer = await send({ op: session.model.login, body, own: true });
  if (!answer.ok) return answer;
  tell({ token: answer.data.token ?? answer.data });
  const { data } = await send({ op: session.model.version, own: true });
  tell({ user: data.user ?? body.login, id: data.id ?? null, groups: data.groups ?? null });
  return answer;
}

export const leave = () => tell({ token: null, user: null, id: null, groups: null });

const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", `'\\''`)}'`);

export function curl(request) {
  const { url, method, headers, body } = prepare(request);
  delete headers["Consistency-Token"];
  const says = Object.entries(headers).map(([name, value]) => name !== "Authorization" ? `-H ${quote(`${name}: ${value}`)}`
    : /^Basic/.test(value) ? `-u ${quote(session.user)}` : '-H "Authorization: Bearer $TOKEN"');
  const sends = body === undefined ? [] : [typeof body === "string" ? `--data-raw ${quote(body)}` : "--data-binary @file.csv"];
  return ["curl", ...(method === "GET" ? [] : ["-X", method]), ...says, ...sends, quote(url.href)].join(" ");
}

// a key for a request that may be sent again (crypto.randomUUID wants HTTPS)
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
