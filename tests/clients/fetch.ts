// openapi-fetch with the types of openapi-typescript: create, page, 409, 412, log-in
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const baseUrl = process.env.BASE!;
const client = createClient<paths>({ baseUrl });

const made = await client.POST("/stuff", { body: { stuff: "fetch" } });
assert.equal(made.response.status, 201);
const sid: number = made.data!.sid;
const again = await client.POST("/stuff", { body: { stuff: "fetch" } });
assert.equal(again.response.status, 409);
assert.equal(again.error!.code, "duplicate");
const form = await client.POST("/stuff", {
  body: { stuff: "fetch by form" },
  headers: { "Content-Type": "application/x-www-form-urlencoded" },
  bodySerializer: (body) => new URLSearchParams(body as Record<string, string>).toString(),
});
assert.equal(form.response.status, 201);

const page = await client.GET("/stuff", { params: { query: { limit: 1, sort: "-sid" }, header: { Prefer: "count=exact" } } });
assert.deepEqual(page.data, [{ sid: form.data!.sid, stuff: "fetch by form" }]);
assert.match(page.response.headers.get("Content-Range")!, /^items 0-0\/\d+$/);
const after = /after=([^&>]+)/.exec(page.response.headers.get("Link")!)![1];
const next = await client.GET("/stuff", { params: { query: { limit: 1, sort: "-sid", after } } });
assert.deepEqual(next.data, [{ sid, stuff: "fetch" }]);

const one = await client.GET("/stuff/{sid}", { params: { path: { sid } } });
const etag = one.response.headers.get("ETag")!;
const params = { path: { sid }, header: { "If-Match": etag } };
assert.equal((await client.PUT("/stuff/{sid}", { params, body: { stuff: "fetched" } })).response.status, 204);
assert.equal((await client.PUT("/stuff/{sid}", { params, body: { stuff: "late" } })).response.status, 412);

const login = await client.POST("/login", { body: { login: "calvin", pword: "hobbes" } });
const token: string = login.data!;
const users = await client.GET("/users", { headers: { Authorization: `Bearer ${token}` } });
assert.equal(users.data![0].login, "calvin");
const made4 = await client.POST("/users", {
  body: { login: "fetch", pass: "twinky-1985", admin: null },
  headers: { Authorization: `Bearer ${token}` },
});
assert.equal(typeof made4.data, "number");
await client.DELETE("/stuff/{sid}", { params: { path: { sid } } });
