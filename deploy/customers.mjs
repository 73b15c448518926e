// Customers of a user pool call the API from a page of another origin, in a real browser. API_URL names the API, CUSTOMERS
// has two customers' ids and tokens, and EXPIRING_TOKEN is one that soon expires.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch } from "../contract/chromium.mjs";

const api = process.env.API_URL;
const [ana, bia] = JSON.parse(process.env.CUSTOMERS);
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

/** What the page reads of an answer. It throws if the browser hides the answer. */
function fetchFromPage(token, method, path, body) {
  const headers = { ...(token && { authorization: token }), ...(body && { "content-type": "application/json" }) };
  return page.evaluate(
    async ([url, options]) => {
      const answer = await fetch(url, options);
      return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.json() };
    },
    [api + path, { method, headers, ...(body && { body: JSON.stringify(body) }) }],
  );
}

function refuses(answer, status, code) {
  assert.deepEqual([answer.status, answer.body.code], [status, code]);
  assert.equal(answer.type, "application/problem+json");
}

test("each customer sees and pauses only their own subscription", async () => {
  const subscriptions = new Map();
  for (const customer of [ana, bia]) {
    const subscribed = await fetchFromPage(customer.token, "POST", "/club/1/subscribe", { customer_id: customer.id });
    assert.equal(subscribed.status, 201);
    subscriptions.set(customer, subscribed.body.id);
  }
  for (const [customer, other] of [
    [ana, bia],
    [bia, ana],
  ]) {
    const [own, others] = [subscriptions.get(customer), subscriptions.get(other)];
    const paused = await fetchFromPage(customer.token, "POST", `/subscription/${own}/status`, { status_id: 3 });
    assert.equal(paused.status, 200);
    const list = await fetchFromPage(customer.token, "GET", "/subscription");
    assert.deepEqual(list.body.map(({ id, status_id }) => [id, status_id]), [[own, 3]]);
    assert.equal((await fetchFromPage(customer.token, "GET", `/subscription/${own}`)).status, 200);

    const status = `/subscription/${others}/status`;
    refuses(await fetchFromPage(customer.token, "POST", status, { status_id: 2 }), 404, "subscription_not_found");
    refuses(await fetchFromPage(customer.token, "GET", `/subscription/${others}`), 404, "subscription_not_found");
    const ofOther = { customer_id: other.id };
    refuses(await fetchFromPage(customer.token, "POST", "/club/1/subscribe", ofOther), 403, "customer_mismatch");
    refuses(await fetchFromPage(customer.token, "GET", `/subscription?customer_id=${other.id}`), 403, "customer_mismatch");
    const again = await fetchFromPage(customer.token, "POST", "/club/1/subscribe", { customer_id: customer.id });
    refuses(again, 409, "already_subscribed");
    assert.equal(again.body.subscription_id, own);
  }
  for (const customer of [ana, bia]) {
    const found = await fetchFromPage(customer.token, "GET", `/subscription/${subscriptions.get(customer)}`);
    assert.equal(found.body.status_id, 3, "nobody else has cancelled it");
  }
});

test("the page reads that a token is missing, forged or has expired", async () => {
  const [head, claims, signature] = ana.token.split(".");
  const others = JSON.stringify({ ...JSON.parse(Buffer.from(claims, "base64url")), sub: bia.id });
  const forged = [head, Buffer.from(others).toString("base64url"), signature].join(".");
  for (const token of [undefined, "not a token", forged]) {
    refuses(await fetchFromPage(token, "GET", "/subscription"), 401, "unauthenticated");
    refuses(await fetchFromPage(token, "POST", "/club/1/subscribe", { customer_id: ana.id }), 401, "unauthenticated");
  }
  const patience = Date.now() + 30_000;
  let answer;
  do {
    answer = await fetchFromPage(process.env.EXPIRING_TOKEN, "GET", "/subscription");
  } while (answer.status === 200 && Date.now() < patience);
  refuses(answer, 401, "unauthenticated");
});
