// Forms from the schemas of an operation: faults beside their fields, the same request sent again under the same key.
import { html, useMemo, useRef, useState } from "./preact.js";
import { curl, newKey, send } from "./api.js";
import { Curl, useCountdown } from "./cells.js";

// an array of texts, or of objects with one text, is written line by line
const lineOf = ({ type, items }) => type === "array" && (items?.type === "string" ? ""
  : Object.keys(items?.properties ?? {}).length === 1 ? Object.keys(items.properties)[0] : null);
const isLines = (schema) => typeof lineOf(schema) === "string";

function shown(value, schema) {
  if (value == null) return "";
  if (isLines(schema)) return value.map((one) => (lineOf(schema) ? one[lineOf(schema)] : one)).join("\n");
  return typeof value === "object" ? JSON.stringify(value, null, 2) : String(value);
}

export function typed(text, schema) {
  if (schema.type === "boolean") return text === "true";
  if (schema.type === "integer" && /^-?\d{1,15}$/.test(text)) return Number(text);
  if (schema.format === "date-time" && text) return new Date(text).toISOString();
  if (isLines(schema)) return text.split("\n").filter(Boolean).map((one) => (lineOf(schema) ? { [lineOf(schema)]: one } : one));
  if (schema.type === "array" || schema.type === "object") try { return JSON.parse(text); } catch { return text; }
  return text;
}

// how a row calls a member of a form: by its name, or as a question (`admin` is `isadmin`)
export const ofRow = (row, name) => row?.[name] ?? row?.[`is${name}`];

// what a form sends; with a row that it changes, no more of it than is new, where the operation lets it be
function gather(inputs, texts, row, masked) {
  const found = { at: {}, query: {}, body: undefined };
  for (const { name, schema, required, in: place } of inputs) {
    const text = texts[name] ?? "";
    if (!required && (text === "" || (row && text === shown(ofRow(row, name), schema)))) continue;
    const value = masked && schema.format === "password" ? "PASSWORD" : typed(text, schema);
    if (place !== "body") found[place === "path" ? "at" : "query"][name] = value;
    else {
      const steps = name.split("."), last = steps.pop();
      steps.reduce((at, step) => (at[step] ??= {}), (found.body ??= {}))[last] = value;
    }
  }
  return found;
}

function Field({ input: { name, schema, required }, id, text, set, faults }) {
  const says = { id, name, "aria-invalid": faults.length > 0, "aria-describedby": `${id}-why`, onInput: (event) => set(event.target.value),
    "aria-required": required, maxlength: schema.maxLength };
  const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
  const kind = schema.format === "password" || /^(pword|old|new)$/.test(name) ? "password"
    : schema.format === "date-time" ? "datetime-local" : schema.format === "email" ? "email" : "text";
  const label = name.split(".").at(-1).replace(/_/g, " ");
  return html`<div class=${faults.length ? "field bad" : "field"}>
    <label for=${id}>${label}${!required && html` <span class="void">optional</span>`}</label>
    ${choices ? html`<select ...${says} value=${text}>${(!required || text === "") && html`<option value="" selected=${text === ""}>–</option>`}
        ${choices.map((one) => html`<option key=${one} value=${one} selected=${text === String(one)}>
          ${schema.type === "boolean" ? (one === "true" ? "yes" : "no") : one}</option>`)}</select>`
    : ["array", "object"].includes(schema.type) ? html`<textarea ...${says} rows="6" spellcheck=${false} value=${text}
        placeholder=${isLines(schema) ? "one a line" : "JSON"} />`
    : html`<input ...${says} type=${kind} value=${text} inputmode=${schema.type === "integer" ? "numeric" : undefined}
        autocomplete=${kind === "password" ? (name === "old" ? "current-password" : "new-password") : "off"} />`}
    <div id=${`${id}-why`}>${faults.map((fault) => html`<p class="fault" key=${fault.message}>${fault.message}</p>`)}
      ${!faults.length && schema.description && html`<p class="hint">${schema.description}</p>`}</div>
  </div>`;
}

// op, at: path variables that are known, row: the values to begin with, etag: the version that they are of
export function Form({ op, at = {}, row, etag, send: label, danger, onDone, onConflict, onInput }) {
  const inputs = useMemo(() => op.inputs.filter((one) => !(one.in === "path" && one.name in at)), [op]);
  const begin = () => Object.fromEntries(inputs.map(({ name, schema }) => [name, shown(ofRow(row, name) ?? schema.default, schema)]));
  const [texts, setTexts] = useState(begin);
  const [proof, setProof] = useState({ password: "" }); // for what a token does not do
  const [file, setFile] = useState(null);
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(), last = useRef({});
  const wait = useCountdown(answer?.until ?? 0);
  const prefix = useMemo(() => `f${newKey().slice(0, 6)}`, []);

  const request = (masked) => {
    const { at: more, query, body } = gather(inputs, texts, row, masked);
    const sent = file ? { body: file, type: "text/csv" } : { body: body ?? (op.takes.length ? {} : undefined) };
    return { op, at: { ...at, ...more }, query, etag, ...sent, ...(op.byPassword ? proof : {}) };
  };
  // the key stays while the same is sent: "again" after a lost answer does nothing twice
  const keyed = (one) => {
    const text = JSON.stringify([one.at, one.query, one.body, file?.name, file?.lastModified]);
    if (last.current.text !== text) last.current = { text, key: newKey() };
    return { ...one, key: last.current.key };
  };
  const submit = async (event) => {
    event.preventDefault();
    if (busy || wait) return;
    setBusy(true);
    const asked = keyed(request()), got = await send(asked);
    setBusy(false);
    if (got.ok) last.current = {};
    setAnswer({ ...got, until: got.retry ? Date.now() + got.retry * 1000 : 0 });
    if (got.ok) return onDone?.(got, asked);
    if (got.status === 412 && onConflict) return onConflict(asked);
    return requestAnimationFrame(() => form.current?.querySelector("[aria-invalid=true]")?.focus());
  };
  const set = (name) => (text) => (setTexts((now) => ({ ...now, [name]: text })), onInput?.());
  const of = (name) => (answer?.faults ?? []).filter(({ field }) => field === name || field.startsWith(`${name}[`))
    .map(({ field, message }) => ({ message: field === name ? message : `${field.slice(name.length)} ${message}` }));
  const told = answer && !answer.ok && !inputs.some(({ name }) => of(name).length);
  return html`<form ref=${form} onSubmit=${submit} novalidate aria-label=${op.summary}>
    ${!file && inputs.map((input) => html`<${Field} key=${input.name} input=${input} id=${`${prefix}-${input.name}`}
      text=${texts[input.name] ?? ""} set=${set(input.name)} faults=${of(input.name)} />`)}
    ${op.takes.includes("text/csv") && html`<div class="field"><label for=${`${prefix}-file`}>or from a CSV file</label>
      <input id=${`${prefix}-file`} type="file" accept=".csv,text/csv" onChange=${(event) => setFile(event.target.files[0] ?? null)} /></div>`}
    ${op.byPassword && ["password", ...(answer?.code === "otp_required" || proof.otp ? ["otp"] : [])].map((name) => html`<div class="field" key=${name}>
      <label for=${`${prefix}-own-${name}`}>${name === "otp" ? "code of your second factor" : "your password, once more"}</label>
      <input id=${`${prefix}-own-${name}`} type=${name === "otp" ? "text" : name} autocomplete=${name === "otp" ? "one-time-code" : "current-password"}
        value=${proof[name] ?? ""} onInput=${(event) => setProof({ ...proof, [name]: event.target.value })} /></div>`)}
    <div role="alert">${told && html`<p class="fault">${answer.error}${wait ? ` Wait ${wait} s.` : ""}</p>`}</div>
    <div class="buttons"><button class=${danger ? "danger" : "main"} disabled=${busy || wait > 0}>
      ${wait ? `Again in ${wait} s` : answer && (answer.status === 0 || answer.status >= 500 || answer.retry) ? "Again" : label ?? "Send"}</button></div>
    <${Curl} command=${curl({ ...request(true), key: "KEY-OF-THIS-REQUEST" })} />
  </form>`;
}
