// Chromium on a server: lists that a cache might show stale, a page of another origin, /docs logged in and tried out, axe
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const base = process.env.BASE;
// the origin that the tests' configuration allows
const shop = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<title>shop</title>")).listen(8080, "127.0.0.1");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();

// counts: with and without Prefer, before and after a row is added by somebody else
await page.goto(`${base}/docs`);
const list = (prefer) =>
  page.evaluate(async (prefer) => {
    const answer = await fetch("stuff?limit=1&sort=-sid", { headers: prefer ? { Prefer: prefer } : {}, cache: "no-cache" });
    return [answer.status, answer.headers.get("Content-Range"), answer.headers.get("Link") !== null];
  }, prefer);
const total = async () => Number((await list("count=exact"))[1].split("/")[1]);
await list();
const before = await total();
await fetch(`${base}/stuff`, { method: "POST", body: new URLSearchParams({ stuff: "browser" }) });
assert.equal(await total(), before + 1);
assert.deepEqual((await list())[1], null);
assert.equal(await total(), before + 1);

// a page of another origin
await page.goto("http://localhost:8080/");
const seen = await page.evaluate(async (base) => {
  const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Content-Type": "application/json" };
  const put = (path) => fetch(`${base}${path}`, { method: "PUT", headers, body: JSON.stringify({ stuff: "from afar" }) });
  return [(await put("/stuff/2")).status, (await put("/nope")).status, (await fetch(`${base}/stuff`)).headers.get("ETag") !== null];
}, base);
assert.deepEqual(seen, [204, 404, true]);

// /docs at two widths: logged in, tried out, without a serious violation
for (const width of [1280, 390]) {
  await page.setViewportSize({ width, height: 800 });
  await page.goto(`${base}/docs`);
  await page.waitForSelector("#operations-system-get_metrics");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `wider than ${width}`);
  await page.click("button.authorize");
  const basic = page.locator(".auth-container", { has: page.locator('input[type="password"]') });
  await basic.locator('input[type="text"]').fill("calvin");
  await basic.locator('input[type="password"]').fill("hobbes");
  await basic.locator("button.authorize").click();
  await page.locator("button.btn-done").first().click();
  await page.click("#operations-system-get_metrics .opblock-summary-control");
  await page.click("#operations-system-get_metrics .try-out__btn");
  await page.click("#operations-system-get_metrics .execute");
  const status = page.locator("#operations-system-get_metrics .live-responses-table .response-col_status").last();
  await status.waitFor();
  assert.match(await status.innerText(), /^200/);
  await page.evaluate(readFileSync("node_modules/axe-core/axe.min.js", "utf8"));
  // NOTE swagger-ui's own colours and nesting are not ours to mend
  const { violations } = await page.evaluate(() => axe.run({ exclude: [".swagger-ui"] }, { resultTypes: ["violations"] }));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  assert.deepEqual(serious.map((one) => [one.id, one.nodes[0].html]), []);
}
await browser.close();
shop.close();
