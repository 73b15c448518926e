// The page that `make run` offers, used as a person would. PAGE_URL names it; API_URL names the API that it calls.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./chromium.mjs";

const { API_URL: api, PAGE_URL: address } = process.env;
const customer = `person ${Date.now()}`;
const asked = new Set();
let browser, page;

before(async () => {
  browser = await launch();
  page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  await page.goto(address);
});

after(() => browser?.close());

/** Fills in the form of a route, sends it, and reads the answer that the page shows. */
async function send(tag, operation, parameters, body) {
  const route = page.locator(`#operations-${tag}-${operation}`);
  await route.locator(".opblock-summary-control").click();
  for (const [name, value] of Object.entries(parameters)) {
    await route.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (body) await route.locator("textarea.body-param__text").fill(JSON.stringify(body));
  await route.locator("button.execute").click();
  const answer = route.locator(".live-responses-table tr.response");
  return {
    status: Number.parseInt(await answer.locator(".response-col_status").innerText()),
    body: JSON.parse(await answer.locator(".response-col_description code").first().innerText()),
  };
}

async function eligible() {
  return (await fetch(`${api}/subscription/eligible`)).json();
}

test("a person subscribes on the page, and tries every other route", async () => {
  const subscribed = await send("subscriptions", "subscribe", { id: "1" }, { customer_id: customer });
  assert.equal(subscribed.status, 201);
  assert.equal(subscribed.body.customer_id, customer);
  const { id } = subscribed.body;
  assert.ok((await eligible()).includes(id), "the subscription arrived");

  const charged = await send("billing", "charge", { id, request_id: `2026-11.${id}` });
  assert.deepEqual([charged.status, charged.body.already_charged], [200, false]);

  const cancelled = await send("subscriptions", "status", { id }, { status_id: 2 });
  assert.deepEqual([cancelled.status, cancelled.body.status_id], [200, 2]);
  assert.ok(!(await eligible()).includes(id), "the cancellation arrived");

  const listed = await send("billing", "eligible", { limit: "100", after: "" });
  assert.equal(listed.status, 200);
});

test("the page shows every route, and asks nobody but the API", async () => {
  assert.equal(await page.locator(".opblock").count(), Number(process.env.ROUTES));
  assert.deepEqual(asked, new Set([new URL(address).origin, api]));
});
