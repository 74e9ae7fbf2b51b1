// The last minutes of the server, drawn from /metrics; the numbers are kept while the console is open.
import { html, useEffect, useState } from "./preact.js";
import { send, session, useSession } from "./api.js";
import { may } from "./model.js";

const EVERY = 5, KEPT = 120; // seconds between two looks, and how many are kept: ten minutes
const looks = [];

const parse = (text) => [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name, labels, value]) => ({
  name, value: Number(value), labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, label, one]) => [label, one])) }));

// a number of this look: every series whose name ends so, and whose labels fit
const sum = (look, name, fits = () => true) => look.series.reduce((all, one) =>
  all + ((one.name === name || one.name.endsWith(`_${name}`)) && fits(one.labels) ? one.value : 0), 0);

// seconds that a share of the answers between two looks took at most, by the histogram
function quantile(a, b, share) {
  const bounds = [...new Set(b.series.filter((one) => one.name.endsWith("duration_seconds_bucket")).map((one) => one.labels.le))];
  const under = bounds.map((le) => [le === "+Inf" ? Infinity : Number(le), sum(b, "duration_seconds_bucket", (l) => l.le === le)
    - sum(a, "duration_seconds_bucket", (l) => l.le === le)]).sort(([x], [y]) => x - y);
  const all = under.at(-1)?.[1];
  if (!all) return null;
  const place = under.findIndex(([, number]) => number >= share * all);
  const [low, below] = place ? under[place - 1] : [0, 0], [high, number] = under[place];
  return high === Infinity ? low : low + ((high - low) * (share * all - below)) / (number - below || 1);
}

export function useLooks() {
  const me = useSession(), [, poke] = useState(0), allowed = may(me.model?.metrics, me) && !!me.user;
  useEffect(() => {
    if (!allowed) return undefined;
    const look = async () => {
      const got = document.hidden ? {} : await send({ op: session.model.metrics, quiet: true });
      if (!got.ok) return;
      looks.push({ at: Date.now(), series: parse(got.data) });
      if (looks.length > KEPT) looks.shift();
      poke(looks.length && Date.now());
    };
    look();
    const timer = setInterval(look, EVERY * 1000);
    return () => (clearInterval(timer), looks.splice(0));
  }, [allowed]);
}

const WIDE = 320, HIGH = 96;
function Plot({ title, unit, lines }) {
  const most = Math.max(...lines.flatMap((line) => line.values.map((value) => value ?? 0)), 1e-9);
  const step = 10 ** Math.floor(Math.log10(most)), top = Math.ceil(most / step) * step;
  const said = (value) => (value == null ? "–" : `${Number(value.toPrecision(value >= 100 ? 4 : 2)).toLocaleString()}${unit}`);
  const x = (place) => WIDE - (lines[0].values.length - 1 - place) * (WIDE / (KEPT / 2 - 1)), y = (value) => HIGH - (value / top) * (HIGH - 8);
  const path = (values) => values.map((value, place) => value == null ? "" : `${values[place - 1] == null ? "M" : "L"}${x(place).toFixed(1)} ${y(value).toFixed(1)}h0`).join("");
  return html`<figure class="card plot"><figcaption>${title}</figcaption>
    <svg viewBox=${`0 0 ${WIDE} ${HIGH + 2}`} role="img" aria-label=${`${title}: ${lines.map((line) => `${line.name} ${said(line.values.at(-1))}`).join(", ")}`}>
      ${[0, 0.5, 1].map((part) => html`<line class="grid" x1="0" x2=${WIDE} y1=${y(top * part)} y2=${y(top * part)} />`)}
      <text class="scale" x="2" y="18">${said(top)}</text>
      ${lines.map((line, place) => html`<path class=${`line c${place}`} d=${path(line.values)} />`)}</svg>
    <ul>${lines.map((line, place) => html`<li><i class=${`c${place}`}></i>${line.name} <b>${said(line.values.at(-1))}</b></li>`)}</ul></figure>`;
}

export function Overview() {
  const shown = looks.slice(-KEPT / 2 - 1), pairs = shown.slice(1).map((look, place) => [shown[place], look]);
  if (!pairs.length) return html`<section><h1>Overview</h1><p class="empty">Two looks make a line: wait ${EVERY} seconds.</p></section>`;
  const rate = (name, fits, by = 1) => pairs.map(([a, b]) => Math.max(0, ((sum(b, name, fits) - sum(a, name, fits)) * by * 1000) / (b.at - a.at)));
  const now = (name) => pairs.map(([, b]) => sum(b, name)), kind = (digit) => (labels) => labels.status?.startsWith(digit);
  const events = [...new Set(shown.at(-1).series.filter((one) => one.name.endsWith("auth_events_total")).map((one) => one.labels.event ?? Object.values(one.labels)[0]))];
  const last = shown.at(-1), count = (labels) => (one) => one.route === labels.route && one.method === labels.method;
  const routes = last.series.filter((one) => one.name === "http_request_duration_seconds_count").sort((a, b) => b.value - a.value).slice(0, 8);
  return html`<section><div class="bar"><h1>Overview</h1><span class="hint">the last five minutes, every ${EVERY} seconds</span></div><div class="plots">
    <${Plot} title="Requests" unit="/s" lines=${[{ name: "all", values: rate("http_requests_total") }]} />
    <${Plot} title="Errors" unit="/s" lines=${[["4", "of clients (4xx)"], ["5", "of the server (5xx)"]].map(([digit, name]) => ({ name, values: rate("http_requests_total", kind(digit)) }))} />
    <${Plot} title="Latency" unit=" ms" lines=${[0.5, 0.95, 0.99].map((share) => ({ name: `p${share * 100}`, values: pairs.map(([a, b]) => (quantile(a, b, share) ?? NaN) * 1000 || null) }))} />
    <${Plot} title="Database sessions" unit="" lines=${[["pool_in_use", "in use"], ["pool_size", "at most"]].map(([name, text]) => ({ name: text, values: now(name) }))} />
    <${Plot} title="Attempts at passwords" unit="/min" lines=${[{ name: "all", values: rate("attempts_total", undefined, 60) }]} />
    <${Plot} title="At the door" unit="/min" lines=${(events.length ? events : ["none"]).slice(0, 5).map((event) => ({ name: event.toLowerCase().replace("_", " "),
      values: rate("auth_events_total", (labels) => Object.values(labels).includes(event), 60) }))} /></div>
    <div class="table card"><table><caption>Since the server began to count</caption><thead><tr><th scope="col">route</th><th scope="col">requests</th><th scope="col">mean</th><th scope="col">errors</th></tr></thead>
      <tbody>${routes.map(({ labels, value }) => html`<tr><td data-label="route">${labels.method} ${labels.route}</td><td class="number" data-label="requests">${value.toLocaleString()}</td>
        <td class="number" data-label="mean">${((1000 * sum(last, "http_request_duration_seconds_sum", count(labels))) / value).toFixed(1)} ms</td>
        <td class="number" data-label="errors">${sum(last, "http_requests_total", (one) => count(labels)(one) && one.status >= "400")}</td></tr>`)}</tbody></table></div></section>`;
}
