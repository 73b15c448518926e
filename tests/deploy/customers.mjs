// Customers of a user pool call the API from a page of another origin, in a real browser: from an empty page, and from the
// example of a shop. API_URL names the API, CUSTOMERS has two customers' ids and tokens, and EXPIRING_TOKEN is one that soon
// expires.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch } from "../contract/chromium.mjs";

const api = process.env.API_URL;
const [ana, bia] = JSON.parse(process.env.CUSTOMERS);
const example = new URL("../../examples/shop/", import.meta.url);
const types = { html: "text/html", css: "text/css", js: "text/javascript" };
const complaints = [];
let browser, page, shop, origin;

before(async () => {
  browser = await launch();
  shop = createServer(({ url }, answer) => {
    const file = new URL(url.slice(1), example);
    answer.setHeader("content-type", types[url.split(".").pop()] ?? "text/html");
    if (url === "/empty") answer.end("<title>Shop</title>");
    else if (existsSync(file)) answer.end(readFileSync(file));
    // A browser also asks for an icon.
    else answer.writeHead(404).end();
  });
  await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
  origin = `http://127.0.0.1:${shop.address().port}`;
  page = await browser.newPage();
  await page.goto(`${origin}/empty`);
});

after(async () => {
  await browser?.close();
  shop?.close();
});

/** The part of an answer that the page can read. It throws if the browser hides the answer. */
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
    assert.deepEqual((await fetchFromPage(customer.token, "GET", `/subscription/${own}/charge`)).body, []);

    const status = `/subscription/${others}/status`;
    refuses(await fetchFromPage(customer.token, "POST", status, { status_id: 2 }), 404, "subscription_not_found");
    refuses(await fetchFromPage(customer.token, "GET", `/subscription/${others}`), 404, "subscription_not_found");
    const charges = `/subscription/${others}/charge`;
    refuses(await fetchFromPage(customer.token, "GET", charges), 404, "subscription_not_found");
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

/** The example of a shop, where the customer's session has this token. */
async function visit({ id, token }) {
  const shopPage = await (await browser.newContext()).newPage();
  shopPage.setDefaultTimeout(20_000);
  // A setting that the example's file has and this one does not is an error of the page.
  shopPage.on("pageerror", (error) => complaints.push(error.message));
  const config = `
    export const API = ${JSON.stringify(api)};
    export const TIME_ZONE = "UTC";
    export const customer = () => ${JSON.stringify(id)};
    export const authorization = async () => ${JSON.stringify(token)};`;
  await shopPage.route(`${origin}/config.js`, (route) => route.fulfill({ contentType: types.js, body: config }));
  await shopPage.goto(`${origin}/index.html`);
  assert.deepEqual(complaints, []);
  return shopPage;
}

test("in the example of a shop, each customer sees and resumes only their own subscription", async () => {
  const [anas, bias] = [await visit(ana), await visit(bia)];
  for (const own of [anas, bias]) await own.locator("#own .badge").getByText("Paused").waitFor();
  await anas.getByRole("button", { name: "Resume" }).click();
  await anas.locator("#own .badge").getByText("Active").waitFor();
  for (const [own, status] of [
    [anas, "Active"],
    [bias, "Paused"],
  ]) {
    await own.reload();
    await own.locator("#own .badge").getByText(status).waitFor();
    assert.equal(await own.locator("#own .card").count(), 1);
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

  const shopPage = await visit({ id: ana.id, token: process.env.EXPIRING_TOKEN });
  await shopPage.getByRole("alert").getByText("Please sign in again.").waitFor();
});
