// The OpenAPI document as resources: lists with their columns, items and actions, and the rights of whoever is asking.
const METHODS = ["get", "post", "put", "patch", "delete"];
const PAGING = new Set(["limit", "after", "sort", "wait"]);
const words = (text) => text.replace(/[_-]/g, " ").replace(/^./, (first) => first.toUpperCase());

export function understand(doc) {
  // a schema without its reference, and without its "or null"
  const plain = (schema) => {
    if (schema?.$ref) return plain(schema.$ref.slice(2).split("/").reduce((at, name) => at[name], doc));
    if (Array.isArray(schema?.type)) return { ...schema, type: schema.type.find((one) => one !== "null"), nullable: true };
    const other = schema?.anyOf?.filter((one) => one.type !== "null");
    return other?.length === 1 ? { ...plain(other[0]), nullable: true } : schema ?? {};
  };
  // a nested object's members have its name before theirs, as the server's faults have
  const members = (schema, prefix = "") => Object.entries(schema.properties ?? {}).flatMap(([name, raw]) => {
    const one = plain(raw), required = (schema.required ?? []).includes(name);
    if (one.type === "object" && one.properties) return members(one, `${prefix}${name}.`);
    if (one.items) one.items = plain(one.items);
    return [{ name: prefix + name, schema: one, required, in: "body" }];
  });
  const operation = (path, method, spec) => {
    const parameters = (spec.parameters ?? []).map(plain)
      .map((one) => ({ ...one, schema: { description: one.description, ...plain(one.schema) } }));
    const [, success] = Object.entries(spec.responses).find(([status]) => /^2/.test(status)) ?? [];
    const content = plain(success)?.content ?? {}, body = plain(spec.requestBody)?.content ?? {};
    const gives = plain(content["application/json"]?.schema);
    if (gives.items) gives.items = plain(gives.items);
    const schemes = (spec.security ?? []).flatMap(Object.keys);
    return {
      path, method, id: spec.operationId, tag: spec.tags?.[0] ?? "other", summary: spec.summary ?? `${method} ${path}`,
      description: spec.description?.replace(/^For .*\.$/m, "").replace(`${spec.summary}.`, "").trim(), rule: spec["x-authorize"] ?? [schemes.length ? "AUTH" : "OPEN"], gives,
      kinds: [...Object.keys(content), ...(spec["x-also-produces"] ?? [])], takes: Object.keys(body), byPassword: schemes.length > 0 && !schemes.includes("bearer"),
      variables: [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
      headers: new Set(parameters.filter((one) => one.in === "header").map((one) => one.name.toLowerCase())),
      filters: parameters.filter((one) => one.in === "query" && !PAGING.has(one.name)),
      paging: Object.fromEntries(parameters.filter((one) => one.in === "query" && PAGING.has(one.name)).map((one) => [one.name, one])),
      inputs: [...parameters.filter((one) => one.in === "path" || one.in === "query"),
        ...members(plain(body["application/json"]?.schema))],
    };
  };
  const all = Object.entries(doc.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operation(path, method, item[method])));
  const find = (method, path) => all.find((op) => op.method === method && op.path === path);
  const special = { login: find("post", "/login"), logout: find("delete", "/login"), version: find("get", "/version"),
    metrics: find("get", "/metrics"), changes: find("get", "/changes"), audit: find("get", "/audit") };
  const used = new Set([special.login, find("get", "/login"), find("get", "/openapi.json"), special.changes]);

  const tables = all.filter((op) => op.method === "get" && op.gives.type === "array" && op.gives.items?.properties && !used.has(op));
  // of two paths to one list, the one that is called as its resource
  const alias = (op) => tables.find((other) => other.tag === op.tag && other.summary === op.summary && other.path !== op.path);
  const lists = tables.filter((op) => !alias(op) || op.path === `/${op.tag}`).map((op) => {
    const columns = Object.entries(op.gives.items.properties).map(([name, schema]) => ({ name, schema: plain(schema) }));
    const items = all.filter((one) => one.path.replace(/\{\w+\}$/, "") === `${op.path}/` && one.gives.type !== "array");
    const item = Object.fromEntries(items.map((one) => [one.method, one])), variable = items[0]?.variables.at(-1);
    const names = columns.map((column) => column.name);
    const key = names.find((name) => name === variable) ?? names.find((name) => name === "id") ?? names[0];
    const mine = op.variables[0] && op.rule.some((rule) => rule.includes("self")) ? op.variables[0] : null;
    const title = words(op.path.split("/").filter((part) => part && !part.startsWith("{")).join(" ")) + (mine ? ", mine" : "");
    const newest = names.includes("before") && op.paging.sort?.schema.enum?.find((one) => one === `-${key}`);
    const home = `#${op.path}${newest ? `?sort=${newest}` : ""}`; // a trail begins with its newest lines
    return { op, home, columns, item, variable, key, mine, title, create: find("post", op.path), tag: op.tag };
  });
  lists.forEach((list) => [list.op, list.create, ...Object.values(list.item)].forEach((op) => used.add(op)));
  tables.forEach((op) => used.add(op));
  // what is below a list's path is offered with the list or with its rows, everything else on a page of its own
  for (const list of [...lists].sort((a, b) => b.op.path.length - a.op.path.length)) {
    const below = all.filter((op) => !used.has(op) && op.path.startsWith(`${list.op.path}/`));
    list.actions = below.filter((op) => op.variables.length === list.op.variables.length);
    list.rowActions = below.filter((op) => list.variable && op.path.startsWith(`${list.op.path}/{${list.variable}}/`));
    [...list.actions, ...list.rowActions].forEach((op) => used.add(op));
  }
  const rest = all.filter((op) => !used.has(op) && (!op.kinds.length || op.kinds.some((kind) => /json/.test(kind)))).filter((op) => {
    const list = !op.variables.length && lists.find((one) => one.tag === op.tag && one.op.path.split("/")[1] === op.tag);
    return !list || (list.actions.push(op), false);
  });
  const pages = [...new Set(rest.map((op) => op.tag))].map((tag) => ({ tag, title: words(tag), ops: rest.filter((op) => op.tag === tag) }));
  return { title: doc.info.title, release: doc.info.version, lists, pages, ...special };
}

// every rule must hold, each by one of its words; a lower-case word is a rule on the object, which the server alone can check
export const may = (op, { user, groups }) => !!op && op.rule.every((rule) => rule.split(" or ").some((word) => word === "OPEN"
  || (user && (word === "AUTH" || word !== word.toUpperCase() || !groups || groups.includes(word)))));
