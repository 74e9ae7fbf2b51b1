// One row beside its list: read, edit with If-Match, choose where two have edited, delete, its history; and other operations.
import { html, useEffect, useRef, useState } from "./preact.js";
import { leave, note, send, session, useSession } from "./api.js";
import { Cell, Diff, Dialog } from "./cells.js";
import { Form, ofRow } from "./form.js";
import { may } from "./model.js";

// takes the focus when it opens, Escape closes it
function Panel({ title, close, children }) {
  const ref = useRef();
  useEffect(() => {
    const back = document.activeElement;
    ref.current.focus();
    return () => back?.isConnected && back.focus();
  }, []);
  const press = (event) => event.key === "Escape" && !event.target.closest("dialog") && close();
  return html`<aside class="panel" aria-label=${title} onKeyDown=${press}>
    <div class="bar"><h2 tabindex="-1" ref=${ref}>${title}</h2><button class="plain" aria-label="Close" onClick=${close}>✕</button></div>
    ${children}</aside>`;
}

export function Create({ list, at, close, made, refresh }) {
  const [got, setGot] = useState(null);
  const done = (got) => {
    const key = got.data && typeof got.data === "object" ? got.data[list.key] ?? Object.values(got.data)[0] : got.data;
    note(got.replayed ? `${key} was created already.` : `${key ?? "It"} is created.`);
    // an answer that says more than the key may be a secret that is shown this once
    if (got.data && typeof got.data === "object" && Object.keys(got.data).length > 1) return setGot(got), refresh();
    return made(list.item.get ? key : null);
  };
  return html`<${Panel} title=${list.create.summary} close=${close}>${got ? html`<${Answer} got=${got} />`
    : html`<${Form} op=${list.create} at=${at} send="Create" onDone=${done} />`}</${Panel}>`;
}

export function Row({ list, at, id, found, pulse, close, changed }) {
  const me = useSession(), { get, patch, put, delete: remove } = list.item;
  const [now, setNow] = useState(found && !may(get, me) ? { row: found } : null);
  const [conflict, setConflict] = useState(null), [act, setAct] = useState(null), [late, setLate] = useState(false);
  const dirty = useRef(false), edit = [patch, put].find((op) => may(op, me)), here = { ...at, [list.variable]: id };

  const read = (request = {}) => send({ op: get, at: here, ...request });
  const load = async (quiet) => {
    if (!may(get, me)) return;
    const got = await read({ known: quiet ? now?.etag : null, quiet });
    if (got.ok && quiet && dirty.current) setLate(true);
    else if (got.ok) setNow({ row: got.data, etag: got.etag }), setLate(false), (dirty.current = false);
    else if (got.status !== 304 && !(quiet && got.status === 0)) setNow({ error: got.status === 404 ? "It is no longer there." : got.error });
  };
  useEffect(() => { load(now !== null && pulse > 0); }, [pulse]);
  const saved = () => (note("Saved."), changed(), setConflict(null), load());
  const disputed = async (asked) => {
    const got = await read();
    if (!got.ok) return setNow({ error: "It is no longer there." });
    return setConflict({ asked, before: now.row, theirs: got.data, etag: got.etag });
  };
  const gone = () => (note(`${id} is deleted.`), setAct(null), changed(), close());
  const row = now?.row ?? found, hidden = edit && now?.row ? edit.inputs.map(({ name }) => name) : ["before", "after"];
  const facts = list.columns.filter(({ name }) => !hidden.includes(name));
  if (!row) return html`<${Panel} title=${`${list.title} ${id}`} close=${close}><p>${now?.error ?? "…"}</p></${Panel}>`;
  return html`<${Panel} title=${`${list.title} ${id}`} close=${close}>
    ${now?.error && html`<p class="fault" role="alert">${now.error}</p>`}
    ${facts.length > 0 && html`<dl>${facts.map(({ name, schema }) => html`<div key=${name}><dt>${name}</dt>
      <dd><${Cell} value=${row[name]} schema=${schema} /></dd></div>`)}</dl>`}
    ${"after" in row && html`<${Diff} before=${row.before} after=${row.after} />`}
    ${late && html`<p class="hint" role="status">Somebody has changed this since. When you save, you choose.</p>`}
    ${edit && now?.row && (conflict ? html`<${Conflict} ...${conflict} done=${saved} again=${disputed} cancel=${() => (setConflict(null), load())} />`
      : html`<${Form} key=${now.etag} op=${edit} at=${here} row=${now.row} etag=${now.etag} send="Save" onDone=${saved} onConflict=${disputed}
        onInput=${() => (dirty.current = true)} />`)}
    <div class="buttons">${may(remove, me) && html`<button class="danger" onClick=${() => setAct(remove)}>Delete…</button>`}
      ${list.rowActions.filter((op) => may(op, me)).map((op) => html`<button key=${op.id} title=${op.summary} onClick=${() => setAct(op)}>${op.summary.split(/[:,]/)[0]}…</button>`)}</div>
    ${me.model.audit?.inputs.some(({ name }) => name === "key") && list.op !== me.model.audit && may(me.model.audit, me)
      && html`<${History} list=${list} id=${id} pulse=${pulse} />`}
    ${act && html`<${Dialog} title=${act === remove ? `Delete ${id}?` : act.summary} onClose=${() => setAct(null)}>
      ${act === remove ? html`<${Form} op=${remove} at=${here} etag=${now?.etag} danger send="Delete" onDone=${gone} onConflict=${() => load()} />`
        : html`<${Action} op=${act} at=${here} bare done=${() => (changed(), load())} />`}
      <button class="close" onClick=${() => setAct(null)}>Cancel</button></${Dialog}>`}</${Panel}>`;
}

// 412: each field as it was, as I want it, and as somebody else has made it since
function Conflict({ asked, before, theirs, etag, done, again, cancel }) {
  const names = Object.keys(asked.body ?? {});
  const [fault, setFault] = useState("");
  const value = { before: (name) => ofRow(before, name), mine: (name) => asked.body[name], theirs: (name) => ofRow(theirs, name) };
  // what I have not touched is theirs
  const first = (name) => JSON.stringify(value.mine(name)) === JSON.stringify(value.before(name)) ? "theirs" : "mine";
  const [choice, setChoice] = useState(() => Object.fromEntries(names.map((name) => [name, first(name)])));
  const save = async (event) => {
    event.preventDefault();
    const body = Object.fromEntries(names.map((name) => [name, value[choice[name]](name)]).filter(([, one]) => one !== undefined));
    const got = await send({ ...asked, body, etag });
    return got.ok ? done() : got.status === 412 ? again(asked) : setFault(got.error);
  };
  return html`<form class="conflict" onSubmit=${save} aria-label="Conflict"><h3 role="alert">Somebody has changed this since you looked</h3>
    ${names.map((name) => html`<fieldset key=${name}><legend>${name}</legend>${["mine", "before", "theirs"].map((whose) => html`
      <label key=${whose}><input type="radio" name=${name} checked=${choice[name] === whose} onChange=${() => setChoice({ ...choice, [name]: whose })} />
        <span class="void">${whose}</span> <span>${String(value[whose](name) ?? "–")}</span></label>`)}</fieldset>`)}
    <p class="fault">${fault}</p><div class="buttons"><button class="main">Save what is chosen</button>
      <button type="button" onClick=${cancel}>Leave it as theirs</button></div></form>`;
}

// the trail of a row: its key may be another table's too, hence the lines that have this table's columns
function History({ list, id, pulse }) {
  const [lines, setLines] = useState(null), op = session.model.audit;
  useEffect(() => {
    const sort = op.paging.sort?.schema.enum?.find((one) => one.startsWith("-"));
    send({ op, query: { key: id, sort, limit: 100 }, quiet: true }).then((got) => got.ok && setLines(got.data.filter(({ before, after }) =>
      list.columns.every(({ name }) => name in (after ?? before ?? {})))));
  }, [pulse]);
  return html`<section class="history"><h3>History</h3>${!lines ? "…" : html`<ol>${lines.map((one) => html`<li key=${one.aid}>
    <${Cell} value=${one.event} badge /> <${Cell} value=${one.at} schema=${{ format: "date-time" }} /> ${one.login ?? one.role}
    <${Diff} before=${one.before} after=${one.after} /></li>`)}</ol>`}</section>`;
}

// an operation that is none of a list's own: its form, and what it answers
export function Action({ op, at, bare, done }) {
  const [got, setGot] = useState(null);
  const after = (answer) => {
    setGot(answer);
    if (op === session.model.logout) leave();
    done?.();
  };
  return html`<section class=${bare ? "" : "card"}>${!bare && html`<h2>${op.summary}</h2>`}
    ${op.description && html`<p class="hint">${op.description}</p>`}
    <${Form} op=${op} at=${at} danger=${op.method === "delete"} send=${op.method === "get" ? "Ask" : "Send"} onDone=${after} />
    <output>${got && html`<${Answer} got=${got} />`}</output></section>`;
}

const Answer = ({ got: { data } }) => data == null || data === "" ? html`<p class="done">Done.</p>`
  : html`<pre tabindex="0" role="region" aria-label="Answer">${typeof data === "string" ? data : JSON.stringify(data, null, 2)}</pre>`;
