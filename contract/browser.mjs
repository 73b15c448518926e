// A page of another origin, in a real browser, as the shop's front end would call the API: what the page can read is
// what counts. API_URL names the API; CHROMIUM the browser, where it is not found by itself.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { delimiter, join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const api = process.env.API_URL;
const customer = `customer ${Date.now()}`;
let browser, page, shop;

function installedBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = process.env.PATH.split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const found = names.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  assert.ok(found, "there is no Chromium: `apt-get install chromium`, or say where it is with CHROMIUM=/path/to/it");
  return found;
}

before(async () => {
  browser = await chromium.launch({
    executablePath: installedBrowser(),
    args: ["--disable-gpu", "--disable-quic", "--disable-component-update"],
  });
  shop = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>Shop</title>"));
  await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${shop.address().port}/`);
});

after(async () => {
  await browser?.close();
  shop?.close();
});

/** What a page reads of an answer. It throws where the browser does not let it. */
function fetchFromPage(method, path, body) {
  const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return page.evaluate(
    async ([url, options]) => {
      const answer = await fetch(url, options);
      return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.json() };
    },
    [api + path, { method, ...json }],
  );
}

test("a page subscribes, pauses and activates a customer, and reads the answers", async () => {
  const subscribed = await fetchFromPage("POST", "/club/1/subscribe", { customer_id: customer });
  assert.equal(subscribed.status, 201);
  assert.equal(subscribed.body.customer_id, customer);

  const status = `/subscription/${subscribed.body.id}/status`;
  const paused = await fetchFromPage("POST", status, { status_id: 3, interval: 30 });
  assert.equal(paused.status, 200);
  assert.ok(Date.parse(paused.body.automatic_return) > Date.now());
  assert.equal((await fetchFromPage("POST", status, { status_id: 1 })).status, 200);

  const eligible = await fetchFromPage("GET", "/subscription/eligible");
  assert.ok(eligible.body.includes(subscribed.body.id));
  const charged = await fetchFromPage("POST", `/subscription/${subscribed.body.id}/charge/${subscribed.body.id}`);
  assert.equal(charged.body.already_charged, false);
});

test("a page reads why it is refused", async () => {
  for (const [method, path, body, status, code] of [
    ["POST", "/club/1/subscribe", { customer_id: customer }, 409, "already_subscribed"],
    ["POST", "/club/1/subscribe", { customer_id: "" }, 400, "invalid_request"],
    ["POST", "/subscription/nobody/status", { status_id: 3 }, 404, "subscription_not_found"],
    ["GET", "/subscription/eligible?limit=0", undefined, 400, "invalid_request"],
    ["POST", "/subscription/nobody/charge/order-1", undefined, 404, "subscription_not_found"],
  ]) {
    const refused = await fetchFromPage(method, path, body);
    assert.deepEqual([refused.status, refused.body.code], [status, code]);
    assert.equal(refused.type, "application/problem+json");
    assert.ok(refused.body.detail);
  }
});
