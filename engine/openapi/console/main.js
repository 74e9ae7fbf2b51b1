// The console: its pages are what the OpenAPI document has, its address is in the fragment, nothing is kept in the browser.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { enter, leave, send, session, signIn, sleep, tell, useSession } from "./api.js";
import { Dialog, useCountdown } from "./cells.js";
import { List } from "./list.js";
import { may, understand } from "./model.js";
import { Overview, useLooks } from "./overview.js";
import { Action } from "./row.js";

const address = () => {
  const [path, query = ""] = location.hash.slice(1).split("?");
  return { path, query: new URLSearchParams(query) };
};

function SignIn({ ask }) {
  const [texts, setTexts] = useState({ login: session.user ?? "", pword: "" }), [answer, setAnswer] = useState(null), [busy, setBusy] = useState(false);
  const wait = useCountdown(answer?.until ?? 0), form = useRef();
  useLayoutEffect(() => form.current.querySelector(session.user ? "#pword" : "#login").focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    if (busy || wait) return;
    setBusy(true);
    const got = await enter(texts);
    setBusy(false);
    if (got.ok) return ask.done(true);
    setAnswer({ ...got, until: got.retry ? Date.now() + got.retry * 1000 : 0 });
    return requestAnimationFrame(() => form.current?.querySelector(got.code === "otp_required" ? "#otp" : "#pword")?.focus());
  };
  const field = (name, label, type, complete) => html`<div class="field"><label for=${name}>${label}</label>
    <input id=${name} type=${type} autocomplete=${complete} value=${texts[name] ?? ""} onInput=${(event) => setTexts({ ...texts, [name]: event.target.value })} /></div>`;
  const otp = answer?.code === "otp_required" || texts.otp;
  return html`<${Dialog} title="Log in" onClose=${() => ask.done(false)}>${ask.why && html`<p>${ask.why}</p>`}
    <form ref=${form} onSubmit=${submit} novalidate>${field("login", "login", "text", "username")}${field("pword", "password", "password", "current-password")}
      ${otp && field("otp", "code", "text", "one-time-code")}
      <div role="alert">${answer && !answer.ok && html`<p class="fault">${answer.code === "otp_required" ? "Now the code of your second factor." : answer.error}</p>`}</div>
      <div class="buttons"><button class="main" disabled=${busy || wait > 0}>${wait ? `Again in ${wait} s` : "Log in"}</button>
        <button type="button" onClick=${() => ask.done(false)}>Cancel</button></div></form></${Dialog}>`;
}

// of the server's log-outs the narrowest that there is: this session alone, else all of this user
async function signOut() {
  const sessions = session.model.lists.find((list) => list.op.path === "/sessions" && list.item.delete);
  const mine = sessions && (await send({ op: sessions.op, quiet: true })).data?.find?.((one) => one.current);
  await send(mine ? { op: sessions.item.delete, at: { [sessions.variable]: mine[sessions.key] }, quiet: true } : { op: session.model.logout, quiet: true });
  leave();
  location.hash = "";
}

// grows when something may have changed: as /changes tells, and every ten seconds for rows that it does not tell of
function usePulse() {
  const me = useSession(), [pulse, setPulse] = useState(0), op = me.model.changes, told = !!me.user && may(op, me);
  const beat = () => document.hidden || setPulse((n) => n + 1);
  useEffect(() => {
    const timer = setInterval(beat, 10000);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    let on = told;
    const follow = async () => {
      // first to the end of the trail, then wait there; a long one is not read for this
      for (let after, here = false, pages = 0; on && pages < 10;) {
        const began = Date.now(), query = { after, limit: 1000, wait: here ? 20 : null };
        const got = document.hidden ? { ok: false } : await send({ op, query, quiet: true });
        if (!got.ok) after = got.status === 410 ? undefined : after;
        else [after, pages] = [got.pages.next.get("after"), here ? 0 : pages + 1];
        if (got.ok && here && got.data.length) beat();
        here = got.ok ? here || got.data.length < query.limit : here && got.status !== 410;
        await sleep(!got.ok ? 5 : here && !got.data.length && Date.now() - began < 1000 ? 2 : 0.2);
      }
    };
    follow();
    return () => { on = false; };
  }, [told]);
  return pulse;
}

function Console() {
  const me = useSession(), { model } = me, [{ path, query }, setAddress] = useState(address), [menu, setMenu] = useState(false);
  const pulse = usePulse(), wait = useCountdown(me.until), content = useRef();
  useLooks();
  useEffect(() => {
    const follow = () => (setAddress(address()), setMenu(false));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => { if (me.note) sleep(4).then(() => session.note === me.note && tell({ note: null })); }, [me.note]);
  const lists = model.lists.filter((list) => may(list.op, me) && (!list.mine || me.user));
  const pages = model.pages.map((page) => ({ ...page, ops: page.ops.filter((op) => may(op, me)) })).filter((page) => page.ops.length);
  const overview = me.user && may(model.metrics, me);
  const list = lists.find((one) => one.op.path === path), page = pages.find((one) => path === `@${one.tag}`);
  const wanted = model.lists.find((one) => one.op.path === path), shown = path ? list : lists[0];
  const title = path === "@overview" ? "Overview" : page?.title ?? shown?.title ?? "Console";
  useEffect(() => { document.title = `${title} · ${model.title}`; }, [title]);
  useLayoutEffect(() => scrollTo(0, 0), [path]);
  useEffect(() => { if (!path && shown) location.replace(shown.home); }, [path]); // which is home stays so after a log-in
  const item = (href, text, on) => html`<li key=${href}><a href=${href} aria-current=${on ? "page" : undefined}>${text}</a></li>`;
  return html`<a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), content.current.focus())}>To the content</a>
    <header><div class="brand"><img src="console/icon.svg" alt="" width="28" height="28" /><a href="#">${model.title}</a></div>
      <button class="plain menu" aria-expanded=${menu} aria-controls="nav" onClick=${() => setMenu(!menu)}>Menu</button>
      <nav id="nav" class=${menu ? "open" : ""} aria-label="Pages"><ul>${overview && item("#@overview", "Overview", path === "@overview")}
        ${lists.map((one) => item(one.home, one.title, one === shown && !page))}</ul>
        <h2>More</h2><ul>${pages.map((one) => item(`#@${one.tag}`, one.title, one === page))}</ul>
        <div class="who">${me.user ? html`<span><b>${me.user}</b>${(me.groups ?? []).map((group) => html` <span class="badge on">${group}</span>`)}</span>
          <button onClick=${signOut}>Log out</button>` : model.login && html`<button class="main" onClick=${() => signIn("")}>Log in</button>`}
          <small>${model.title} ${model.release} · <a href="docs">API</a></small>
          <small class="keys"><kbd>/</kbd> filter <kbd>n</kbd> new <kbd>[</kbd> <kbd>]</kbd> pages <kbd>Esc</kbd> close</small></div></nav></header>
    <main id="main" tabindex="-1" ref=${content}>${wait > 0 && html`<p class="banner" role="status">The server asks to wait: ${wait} s</p>`}
      ${path === "@overview" && overview ? html`<${Overview} />`
        : page ? html`<section><h1>${page.title}</h1><div class="cards">${page.ops.map((op) => html`<${Action} key=${op.id} op=${op} />`)}</div></section>`
        : shown ? html`<${List} key=${shown.op.path} list=${shown} query=${query} pulse=${pulse}
          go=${(params) => { location.hash = `#${shown.op.path}${String(params) && `?${params}`}`; }} />`
        : html`<section class="empty"><h1>${wanted?.title ?? "Nothing here"}</h1><p>${me.user ? "You have no right to this." : "Log in to see this."}</p>
          ${!me.user && html`<button class="main" onClick=${() => signIn("")}>Log in</button>`}</section>`}</main>
    ${me.note && html`<div class="toast" role="status">${me.note.text}</div>`}
    ${me.ask && html`<${SignIn} ask=${me.ask} />`}`;
}

const doc = await send({ op: { path: "/openapi.json", method: "get", headers: new Set() } });
if (doc.ok) tell({ model: understand(doc.data) });
render(doc.ok ? html`<${Console} />` : html`<main class="empty"><h1>The server does not answer</h1><p>${doc.error}</p></main>`, document.getElementById("page"));
