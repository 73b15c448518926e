// A page of another origin calls the API in a real browser, as the shop's front end would. What counts is what the page can
// read. API_URL names the API.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch } from "./chromium.mjs";

const api = process.env.API_URL;
const customer = `customer ${Date.now()}`;
let browser, page, shop;

before(async () => {
  browser = await launch();
  shop = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>Shop</title>"));
  await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${shop.address().port}/`);
});

after(async () => {
  await browser?.close();
  shop?.close();
});

/** The part of an answer that a page can read. It throws if the browser hides the answer. */
function fetchFromPage(method, path, body) {
  const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return page.evaluate(
    async ([url, options]) => {
      const answer = await fetch(url, options);
      const { status, headers } = answer;
      return { status, headers: Object.fromEntries(headers), body: await answer.json() };
    },
    [api + path, { method, ...json }],
  );
}

test("a page subscribes, pauses and activates a customer, and reads the answers", async () => {
  const subscribed = await fetchFromPage("POST", "/club/1/subscribe", { customer_id: customer });
  assert.equal(subscribed.status, 201);
  assert.equal(subscribed.body.customer_id, customer);

  const { pathname } = new URL(subscribed.headers.location, "https://shop.example/dev/club/1/subscribe");
  assert.equal(pathname, `/dev/subscription/${subscribed.body.id}`);

  const status = `/subscription/${subscribed.body.id}/status`;
  const paused = await fetchFromPage("POST", status, { status_id: 3, interval: 30 });
  assert.equal(paused.status, 200);
  assert.ok(Date.parse(paused.body.automatic_return) > Date.now());
  assert.equal((await fetchFromPage("POST", status, { status_id: 1 })).status, 200);

  const eligible = await fetchFromPage("GET", "/subscription/eligible");
  assert.ok(eligible.body.includes(subscribed.body.id));
  assert.match(eligible.headers["billing-month"], /^\d{4}-\d\d$/);
  const charged = await fetchFromPage("POST", `/subscription/${subscribed.body.id}/charge/2026-11.${subscribed.body.id}`);
  assert.equal(charged.body.already_charged, false);
});

test("a page reads where the next page is, and when to come back", async () => {
  let id;
  for (const name of ["first", "second"]) {
    const subscribed = await fetchFromPage("POST", "/club/1/subscribe", { customer_id: `${customer} ${name}` });
    assert.equal(subscribed.status, 201);
    id = subscribed.body.id;
  }
  const page = await fetchFromPage("GET", "/subscription/eligible?limit=1");
  assert.match(page.headers.link, /^<\?limit=1&after=.*>; rel="next"$/);

  // No more than 100 dates are scheduled.
  const status = `/subscription/${id}/status`;
  let refused;
  for (let day = 1; day <= 101; day += 1) {
    const effect_date = new Date(Date.UTC(2999, 0, day)).toISOString();
    refused = await fetchFromPage("POST", status, { status_id: 1, effect_date });
  }
  assert.equal(refused.body.code, "too_many_changes");
  assert.ok(Number(refused.headers["retry-after"]) > 0);
  // Nobody else finds it in the list.
  assert.equal((await fetchFromPage("POST", status, { status_id: 2 })).status, 200);
});

test("a page reads why it is refused", async () => {
  for (const [method, path, body, status, code] of [
    ["POST", "/club/1/subscribe", { customer_id: customer }, 409, "already_subscribed"],
    ["POST", "/club/1/subscribe", { customer_id: "" }, 400, "invalid_request"],
    ["POST", "/subscription/nobody/status", { status_id: 3 }, 404, "subscription_not_found"],
    ["GET", "/subscription/eligible?limit=0", undefined, 400, "invalid_request"],
    ["POST", "/subscription/nobody/charge/2026-11.nobody", undefined, 404, "subscription_not_found"],
  ]) {
    const refused = await fetchFromPage(method, path, body);
    assert.deepEqual([refused.status, refused.body.code], [status, code]);
    assert.equal(refused.headers["content-type"], "application/problem+json");
    assert.ok(refused.body.detail);
  }
});
