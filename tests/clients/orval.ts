// orval's fetch client, and its zod schemas: create, page, 409, 412, log-in
import assert from "node:assert/strict";
import { getStuff, getStuffSid, postLogin, postStuff, putStuffSid, getUsers } from "./orval/client.js";
import { postStuffBody } from "./orval/zod.js";

for (const stuff of ["orval", "an emoji 🦆", "\u{10FFFF}"]) {
  postStuffBody.parse({ stuff });
  assert.equal((await postStuff({ stuff })).status, 201);
}
assert.throws(() => postStuffBody.parse({ stuff: "a\0b" }));
const again = await postStuff({ stuff: "orval" });
assert.equal(again.status, 409);
const page = await getStuff({ limit: 2, sort: "-sid" });
assert.equal(page.status, 200);
assert.deepEqual((page.data as { stuff: string }[]).map((row) => row.stuff), ["\u{10FFFF}", "an emoji 🦆"]);
const sid = (page.data as { sid: number }[])[0].sid;
const etag = (await getStuffSid(sid)).headers.get("ETag")!;
assert.equal((await putStuffSid(sid, { stuff: "orval changed" }, { headers: { "If-Match": etag } })).status, 204);
assert.equal((await putStuffSid(sid, { stuff: "late" }, { headers: { "If-Match": etag } })).status, 412);
const login = await postLogin({ login: "calvin", pword: "hobbes" });
assert.equal(login.status, 201);
const users = await getUsers({}, { headers: { Authorization: `Bearer ${login.data}` } });
assert.equal((users.data as { login: string }[])[0].login, "calvin");
