// A list: filters and sort from the operation's parameters, pages by Link, rows that change as others change them.
import { html, useEffect, useRef, useState } from "./preact.js";
import { curl, send, useSession } from "./api.js";
import { Cell, Curl, Diff, Dialog } from "./cells.js";
import { typed } from "./form.js";
import { may } from "./model.js";
import { Action, Create, Row } from "./row.js";

const OWN = /^\./; // parameters of the page itself: .row, .new, and the variables of the path
const ASIDE = ["before", "after", "role", "request", "address"]; // of a trail, shown with the one row

// query: of this page's address; go: to another one of the same list
export function List({ list, query, go, pulse }) {
  const session = useSession();
  const at = Object.fromEntries(list.op.variables.map((name) => [name, query.get(`.${name}`) ?? (name === list.mine ? session.id : null)]));
  const known = Object.values(at).every((value) => value != null);
  const asked = Object.fromEntries([...query].filter(([name]) => !OWN.test(name)));
  const [page, setPage] = useState(null), [count, setCount] = useState(false), [act, setAct] = useState(null);
  const [draft, setDraft] = useState({}); // a filter that is being typed stays when rows change
  const [fresh, setFresh] = useState(new Set());
  const back = useRef([]), filters = useRef(), shown = useRef({});
  const types = Object.fromEntries(list.op.filters.map(({ name, schema }) => [name, schema]));
  const values = Object.fromEntries(Object.entries(asked).map(([name, text]) => [name, types[name] ? typed(text, types[name]) : text]));
  const request = { op: list.op, at, query: values, count };
  const address = JSON.stringify([at, asked, count, session.user]);

  const load = async () => {
    const again = shown.current.address === address;
    const got = await send({ ...request, known: again ? shown.current.etag : null, quiet: again && pulse > 0 });
    if (again ? !got.ok : shown.current.wanted !== address) return;
    const before = new Map((shown.current.rows ?? []).map((row) => [row[list.key], JSON.stringify(row)]));
    if (again) setFresh(new Set(got.data.filter((row) => before.get(row[list.key]) !== JSON.stringify(row)).map((row) => row[list.key])));
    if (got.ok) shown.current = { ...shown.current, address, etag: got.etag, rows: got.data };
    setPage(got);
  };
  useEffect(() => {
    shown.current.wanted = address;
    if (known) load();
  }, [address, pulse]);
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
      const does = { "/": () => filters.current?.querySelector("input, select")?.focus(), n: () => may(list.create, session) && to({ ".new": 1 }),
        "]": next, "[": previous }[event.key];
      if (does) event.preventDefault(), does();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });

  const to = (change) => {
    const params = new URLSearchParams([...query].filter(([name]) => ![".row", ".new"].includes(name)));
    for (const [name, value] of Object.entries(change)) value == null || value === "" ? params.delete(name) : params.set(name, value);
    return go(params);
  };
  const move = (params) => to({ after: null, ...Object.fromEntries(params) });
  const next = () => page?.pages?.next && (back.current.push(query), move(page.pages.next));
  const previous = () => back.current.length ? go(back.current.pop()) : page?.pages?.prev ? move(page.pages.prev) : query.has("after") && to({ after: null });
  const narrow = (change) => (back.current = [], setCount(false), to({ after: null, ...change }));
  const sorts = list.op.paging.sort?.schema.enum ?? [], sort = query.get("sort") ?? list.op.paging.sort?.schema.default;
  const changes = ["before", "after"].every((name) => list.columns.some((column) => column.name === name));
  const columns = list.columns.filter(({ name }) => !changes || !ASIDE.includes(name));
  const done = () => setTimeout(load); // once the page is what it will be
  const rows = page?.data?.map ? page.data : [], id = query.get(".row");
  const head = ({ name }) => sorts.includes(name) || sorts.includes(`-${name}`)
    ? html`<th scope="col" aria-sort=${sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none"}>
        <button onClick=${() => narrow({ sort: sort === name && sorts.includes(`-${name}`) ? `-${name}` : name })}>${name}</button></th>`
    : html`<th scope="col" key=${name}>${name}</th>`;

  if (!known) return html`<${Variables} list=${list} to=${to} />`;
  return html`<div class=${id || query.has(".new") ? "split open" : "split"}><section class="list" aria-label=${list.title}>
    <div class="bar"><h1>${list.title}</h1>
      ${may(list.create, session) && html`<button class="main" onClick=${() => to({ ".new": 1 })}>New</button>`}
      ${list.op.kinds.includes("text/csv") && html`<button onClick=${() => save(list, request)}>CSV</button>`}
      ${list.actions.filter((op) => may(op, session)).map((op) => html`<button key=${op.id} title=${op.summary} onClick=${() => setAct(op)}>${op.path.split("/").at(-1)}…</button>`)}
    </div>
    ${list.op.filters.length > 0 && html`<form class="filters" role="search" ref=${filters} key=${list.op.path} onSubmit=${(event) => event.preventDefault()}
      onInput=${(event) => setDraft({ ...draft, [event.target.name]: event.target.value })}
      onChange=${(event) => (setDraft({}), narrow({ [event.target.name]: event.target.value }))}>${list.op.filters.map(({ name, schema }) => html`<label key=${name}>
        <span>${name}</span>${schema.enum ? html`<select name=${name}><option value="">–</option>${schema.enum.map((one) =>
          html`<option selected=${query.get(name) === one}>${one}</option>`)}</select>`
        : html`<input name=${name} value=${draft[name] ?? query.get(name) ?? ""} title=${schema.description} placeholder=${/LIKE/.test(schema.description) ? "%text%" : ""}
          type=${schema.format === "date-time" ? "datetime-local" : "search"} />`}</label>`)}</form>`}
    ${page && !page.ok && html`<div class="fault" role="alert">${page.status === 401 ? "Log in to see this." : page.error}
      ${" "}<button onClick=${load}>Again</button></div>`}
    <div class="table"><table aria-busy=${!page}><caption class="hidden">${list.title}</caption>
      <thead><tr>${columns.map(head)}${changes && html`<th scope="col">change</th>`}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row[list.key]} class=${`${String(row[list.key]) === id ? "on" : ""} ${fresh.has(row[list.key]) ? "fresh" : ""}`}>
        ${columns.map(({ name, schema }) => html`<td key=${name} data-label=${name} class=${["integer", "number", "boolean"].includes(schema.type) ? "number" : ""}>
          ${name === list.key ? html`<a href=${link(list, query, row[list.key])} aria-label=${`${list.title} ${row[list.key]}`}>${row[name]}</a>`
            : html`<${Cell} value=${row[name]} schema=${schema} badge=${name === "event"} />`}</td>`)}
        ${changes && html`<td data-label="change"><${Diff} before=${row.before} after=${row.after} /></td>`}</tr>`)}</tbody></table>
      ${page?.ok && !rows.length && html`<p class="empty">Nothing here${Object.keys(asked).length ? " that matches" : " yet"}.</p>`}</div>
    <div class="bar foot">
      <button disabled=${!back.current.length && !page?.pages?.prev && !query.has("after")} onClick=${previous}>‹ Previous</button>
      <button disabled=${!page?.pages?.next} onClick=${next}>Next ›</button>
      <span role="status">${page?.total ? `${Number(page.total).toLocaleString()} in all` : `${rows.length} here`}</span>
      ${!page?.total && list.op.headers.has("prefer") && html`<button class="plain" onClick=${() => setCount(true)}>Count</button>`}
      ${list.op.paging.limit && html`<label class="limit">rows <select onChange=${(event) => narrow({ limit: event.target.value })}>
        ${[10, 25, 100, 500].map((size) => html`<option selected=${String(size) === (query.get("limit") ?? "100")}>${size}</option>`)}</select></label>`}
    </div><${Curl} command=${curl(request)} /></section>
    ${query.has(".new") && list.create && html`<${Create} list=${list} at=${at} close=${() => to({})} refresh=${load} made=${(key) => (done(), to(key == null ? {} : { ".row": key }))} />`}
    ${id && html`<${Row} key=${id} list=${list} at=${at} id=${id} found=${rows.find((row) => String(row[list.key]) === id)} pulse=${pulse} close=${() => to({})} changed=${done} />`}
    ${act && html`<${Dialog} title=${act.summary} onClose=${() => setAct(null)}><${Action} op=${act} at=${at} bare done=${done} />
      <button class="close" onClick=${() => setAct(null)}>Close</button></${Dialog}>`}</div>`;
}

export function link(list, query, id) {
  const params = new URLSearchParams([...query].filter(([name]) => name !== ".new"));
  params.set(".row", id);
  return `#${list.op.path}?${params}`;
}

// every page of the list, as the server writes it
async function save(list, request) {
  const most = list.op.paging.limit?.schema.maximum, parts = [];
  for (let query = { ...request.query, limit: most, after: "" }; query;) {
    const got = await send({ ...request, query, accept: "text/csv", count: false });
    if (!got.ok) return;
    parts.push(parts.length ? got.data.slice(got.data.indexOf("\n") + 1) : got.data);
    query = got.pages.next && { ...query, ...Object.fromEntries(got.pages.next) };
  }
  const href = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  Object.assign(document.createElement("a"), { href, download: `${list.title.toLowerCase().replace(/\W+/g, "-")}.csv` }).click();
  URL.revokeObjectURL(href);
}

// a list of something that the address does not name yet
function Variables({ list, to }) {
  const go = (event) => (event.preventDefault(), to(Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [`.${name}`, value]))));
  return html`<section class="list"><h1>${list.title}</h1><form class="card" onSubmit=${go}>${list.op.variables.map((name) =>
    html`<div class="field"><label for=${`v-${name}`}>${name}</label><input id=${`v-${name}`} name=${name} required /></div>`)}
    <button class="main">Show</button></form></section>`;
}
