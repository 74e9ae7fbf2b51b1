// Values as people read them: cells, differences between two versions of a row, and small parts that every page has.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const isTime = (schema) => schema?.format === "date-time";

export function Cell({ value, schema, badge }) {
  if (value == null) return html`<span class="void">–</span>`;
  if (isTime(schema)) return html`<time datetime=${value} title=${value}>${date.format(new Date(value))}</time>`;
  if (typeof value === "boolean") return html`<span class=${value ? "badge on" : "badge"}>${value ? "yes" : "no"}</span>`;
  if (badge) return html`<span class=${`badge ${value.toLowerCase()}`}>${value}</span>`;
  if (typeof value === "object") return html`<code>${JSON.stringify(value)}</code>`;
  return String(value);
}

export function Diff({ before, after }) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const same = (name) => JSON.stringify(before?.[name]) === JSON.stringify(after?.[name]);
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return html`<ul class="diff">${names.filter((name) => !same(name)).map((name) => html`<li key=${name}><b>${name}</b>${" "}
    ${before && name in before && html`<del>${text(before[name])}</del>`}${before && after ? " " : ""}
    ${after && name in after && html`<ins>${text(after[name])}</ins>`}</li>`)}</ul>`;
}

export function Curl({ command }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard?.writeText(command).then(() => setCopied(true));
  useEffect(() => setCopied(false), [command]);
  return html`<details class="curl"><summary>curl</summary><pre tabindex="0" role="region" aria-label="Command">${command}</pre>
    ${navigator.clipboard && html`<button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}</details>`;
}

// a dialog of the browser's own: it keeps the focus, Escape closes it
export function Dialog({ title, onClose, children }) {
  const ref = useRef();
  useLayoutEffect(() => {
    const back = document.activeElement;
    ref.current.showModal();
    return () => back?.isConnected && back.focus();
  }, []);
  return html`<dialog ref=${ref} aria-label=${title} onCancel=${(event) => (event.preventDefault(), onClose())}>
    <h2>${title}</h2>${children}</dialog>`;
}

// seconds until a time, told anew each second
export function useCountdown(until) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (until <= Date.now()) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [until]);
  return Math.max(0, Math.ceil((until - now) / 1000));
}
