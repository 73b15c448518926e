// The example of a shop, used as a customer would. SHOP_URL names it; API_URL names the API that it calls.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";
import { launch } from "./chromium.mjs";

const { API_URL: api, SHOP_URL: address, BILLING_TIMEZONE: billing } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const timezoneId = "Asia/Tokyo";
const DAY = 86_400_000;
/** On every answer of the API. */
const FROM_ANYWHERE = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "billing-month,link,location,retry-after",
};
const asked = new Set();
const complaints = [];
let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
});

/** The page, in the browser of a new customer. */
async function visit(options) {
  const context = await browser.newContext({ timezoneId, locale: "en-US", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on(
    "console",
    (message) => message.text().includes("Content Security Policy") && complaints.push(message.text()),
  );
  await page.goto(address);
  await clubCard(page).waitFor();
  return page;
}

function clubCard(page) {
  return page.locator("#clubs .card").filter({ hasText: "Lager" });
}

function ownCard(page) {
  return page.locator("#own .card");
}

function button(page, name) {
  return ownCard(page).getByRole("button", { name, exact: true });
}

/** Waits until the page shows the subscription in this status, with these words. */
async function shows(page, status, ...words) {
  await ownCard(page).locator(".badge").getByText(status, { exact: true }).waitFor();
  for (const text of words) await ownCard(page).getByText(text).waitFor();
}

/** The subscription, as the API has it. */
async function subscription(page) {
  const answer = await fetch(`${api}/subscription/${await ownCard(page).getAttribute("data-id")}`);
  return answer.json();
}

async function subscribe(page) {
  await clubCard(page).getByRole("button", { name: "Subscribe" }).click();
  await shows(page, "Active");
}

/** A day of the billing time zone, counted from today: as a date field has it. */
function day(days, from = Date.now()) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: billing }).format(new Date(from).getTime() + days * DAY);
}

function nextMonth() {
  const [year, month] = day(0).split("-").map(Number);
  return new Date(Date.UTC(year, month, 1)).toISOString().slice(0, 7);
}

function written(date) {
  return new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" }).format(new Date(date));
}

async function focused(page) {
  return page.evaluate(() => document.activeElement.textContent.trim());
}

test("a customer subscribes, and finds the subscription again", async () => {
  const page = await visit();
  await page.getByText("You have none yet.").waitFor();
  await subscribe(page);
  assert.equal(await focused(page), "Lager");
  assert.equal(await page.locator("#news").innerText(), "You are subscribed to Lager.");
  assert.ok(await clubCard(page).getByRole("button", { name: "Subscribed" }).isDisabled());
  await page.reload();
  await shows(page, "Active", `since ${written(day(0))}`);
  assert.equal((await subscription(page)).status_id, 1);
});

test("a customer pauses until a date, chooses another, and resumes", async () => {
  const page = await visit();
  await subscribe(page);
  for (const [name, days] of [
    ["Pause…", 30],
    ["Change the date…", 45],
  ]) {
    await button(page, name).click();
    await page.getByLabel("Active again on").fill(day(days));
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await shows(page, "Paused", `Active again from ${written(day(days))}`);
    const { status_id, next } = await subscription(page);
    assert.deepEqual([status_id, next.status_id, day(0, next.effect_date)], [3, 1, day(days)]);
  }
  await button(page, "Resume").click();
  await shows(page, "Active");
  await page.locator("#news").getByText("Lager: It is active.").waitFor();
  const { status_id, next } = await subscription(page);
  assert.deepEqual([status_id, next], [1, null]);
});

test("a customer skips a month, cannot skip it twice, and undoes it", async () => {
  const page = await visit();
  await subscribe(page);
  await button(page, "Skip next month").click();
  await shows(page, "Active", `Pauses on ${written(`${nextMonth()}-01`)}`);
  await page.locator("#news").getByText("Lager: Next month is skipped.").waitFor();
  const { next } = await subscription(page);
  assert.deepEqual([next.status_id, day(0, next.effect_date)], [3, `${nextMonth()}-01`]);

  await button(page, "Skip next month").click();
  await page.getByRole("alert").getByText("There is nothing to skip: it is not active in that month.").waitFor();
  assert.deepEqual((await subscription(page)).next, next);

  await button(page, "Undo the pause").click();
  await page.getByText("It stays as it is.").waitFor();
  assert.equal(await focused(page), "Lager");
  assert.equal((await subscription(page)).next, null);
});

test("a customer whose subscriptions come in pages sees all of them", async () => {
  const page = await visit();
  const listed = ["first", "second"].map((id) => ({ id, club_id: 1, status_id: 1, next: null }));
  const link = '<?limit=1&after=1%2Efirst>; rel="next"';
  await page.route(/config\.js$/, async (route) => {
    const answer = await route.fetch();
    const text = await answer.text();
    return route.fulfill({ response: answer, body: text.replace("= null", '= async () => "a token"') });
  });
  await page.route(`${api}/subscription**`, (route) => {
    const { searchParams } = new URL(route.request().url());
    const [json, headers] = searchParams.has("after") ? [listed.slice(1), {}] : [listed.slice(0, 1), { link }];
    return route.fulfill({ json, headers: { ...FROM_ANYWHERE, ...headers } });
  });
  await page.route(`${api}/subscription/*/charge`, (route) => route.fulfill({ json: [], headers: FROM_ANYWHERE }));
  await page.route(`${api}/club`, (route) =>
    route.fulfill({ json: [{ id: 1, name: "Lager" }], headers: FROM_ANYWHERE }),
  );
  await page.reload();
  await page.locator("#own .card[data-id=second]").waitFor();
  assert.equal(await ownCard(page).count(), 2);
});

test("a customer sees the boxes", async () => {
  const page = await visit();
  await subscribe(page);
  const id = await ownCard(page).getAttribute("data-id");
  const charged = await fetch(`${api}/subscription/${id}/charge/box.${id}`, { method: "POST" });
  const { month } = await charged.json();
  await page.reload();
  const name = new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" });
  await ownCard(page).getByText(`${name.format(new Date(month))}: ordered`, { exact: true }).waitFor();

  const attempts = ["rejected", "unknown"].map((state, place) => ({ month: `2026-0${2 - place}`, state }));
  const answer = { json: attempts, headers: FROM_ANYWHERE };
  await page.route(`${api}/subscription/*/charge`, (route) => route.fulfill(answer));
  await page.reload();
  await shows(page, "Active", "February 2026: declined", "January 2026: being checked");
});

test("a customer cancels from a date on, undoes it, cancels now, and comes back", async () => {
  const page = await visit();
  await subscribe(page);
  await button(page, "Cancel…").click();
  await page.getByLabel("Cancelled from").fill(day(10));
  await page.getByRole("button", { name: "Cancel the subscription" }).click();
  await shows(page, "Active", `Ends on ${written(day(10))}`);
  await button(page, "Undo the cancellation").click();
  await page.getByText("It stays as it is.").waitFor();
  assert.equal((await subscription(page)).next, null);

  await button(page, "Cancel…").click();
  await page.getByRole("button", { name: "Cancel the subscription" }).click();
  await shows(page, "Cancelled");
  assert.equal((await subscription(page)).status_id, 2);
  await button(page, "Subscribe again").click();
  await shows(page, "Active");
});

test("the keyboard is enough", async () => {
  const page = await visit();
  const { keyboard } = page;
  /** Presses Tab until the focus is there. */
  async function reach(name) {
    for (let presses = 0; presses < 40; presses += 1) {
      if ((await focused(page)) === name) return;
      await keyboard.press("Tab");
    }
    assert.fail(`Tab never reaches ${name}`);
  }
  const typed = (date) => date.replace(/^(\d+)-(\d+)-(\d+)$/, "$2$3$1");

  await reach("Subscribe");
  await keyboard.press("Enter");
  await shows(page, "Active");

  await reach("Pause…");
  await keyboard.press("Enter");
  await keyboard.press("Escape");
  assert.equal(await focused(page), "Pause…", "the dialog gives the focus back");
  await keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.name), "from");
  while ((await page.evaluate(() => document.activeElement.name)) !== "until") await keyboard.press("Tab");
  await keyboard.type(typed(day(60)));
  await keyboard.press("Enter");
  await shows(page, "Paused", `Active again from ${written(day(60))}`);

  await reach("Resume");
  await keyboard.press("Space");
  await shows(page, "Active");
  assert.equal(await focused(page), "Lager", "the button is gone");

  await reach("Cancel…");
  await keyboard.press("Enter");
  await keyboard.type(typed(day(20)));
  await keyboard.press("Enter");
  await shows(page, "Active", `Ends on ${written(day(20))}`);
  await reach("Undo the cancellation");
  await keyboard.press("Enter");
  await page.getByText("It stays as it is.").waitFor();
  assert.equal((await subscription(page)).next, null);
});

test("a call whose answer is lost is sent again", async () => {
  const page = await visit();
  await subscribe(page);
  let calls = 0;
  const lose = async (route) => {
    calls += 1;
    if (calls % 2) return route.fulfill(problem(503, "database_unavailable", 1));
    await route.fetch();
    return route.abort();
  };
  await page.route(`${api}/subscription/*/status`, lose, { times: 2 });
  await button(page, "Skip next month").click();
  await page.locator("#news").getByText("Lager: Next month is skipped.").waitFor();
  assert.equal((await subscription(page)).next.status_id, 3);

  await page.route(`${api}/subscription/*/status`, lose, { times: 2 });
  await button(page, "Cancel…").click();
  await page.getByRole("button", { name: "Cancel the subscription" }).click();
  await shows(page, "Cancelled");
  assert.equal(calls, 4);
  assert.equal(await page.locator("#trouble").innerText(), "");
});

function problem(status, code, retryAfter) {
  const headers = { ...FROM_ANYWHERE, ...(retryAfter && { "retry-after": String(retryAfter) }) };
  const body = JSON.stringify({ status, code, instance: "urn:uuid:66e2d7d6-6858-435c-bfc3-e0f54eedcc3b" });
  return { status, headers, contentType: "application/problem+json", body };
}

test("the customer reads in words what went wrong", async () => {
  const page = await visit();
  const trouble = page.getByRole("alert");
  const customer_id = await page.evaluate(() => localStorage.getItem("customer"));
  await fetch(`${api}/club/1/subscribe`, { method: "POST", body: JSON.stringify({ customer_id }) });
  await clubCard(page).getByRole("button").click();
  await trouble.getByText("You have a subscription to this club already").waitFor();
  assert.equal(await focused(page), "Subscribe", "the focus stays");

  for (const [status, code, retryAfter, words, tries] of [
    [401, "unauthenticated", 0, "Please sign in again.", 1],
    [409, "club_not_active", 0, "This club takes no subscriptions at the moment.", 1],
    [409, "a_refusal_of_tomorrow", 0, "The shop has asked for something that cannot be done.", 1],
    [413, "too_large", 0, "The shop has asked for something that cannot be done.", 1],
    [429, "too_many_changes", 86_400, "or too many changes are scheduled. Please try again later.", 1],
    [429, "throttled", 1, "Please try again in a minute.", 3],
    [503, "database_unavailable", 2, "Please try again in a minute.", 3],
    [500, "internal_error", 0, "Please try again in a minute.", 1],
  ]) {
    await page.unrouteAll();
    let calls = 0;
    await page.route(`${api}/club/1/subscribe`, (route) => {
      calls += 1;
      return route.fulfill(problem(status, code, retryAfter));
    });
    await clubCard(page).getByRole("button").click();
    await trouble.getByText(words).waitFor();
    assert.match(await trouble.innerText(), /66e2d7d6-6858-435c-bfc3-e0f54eedcc3b/, "the log has it");
    assert.equal(calls, tries, code);
  }
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [360, 1280]) {
    test(`everybody can use it, ${colorScheme} and ${width} pixels wide`, async () => {
      const page = await visit({ colorScheme, viewport: { width, height: 900 } });
      const judge = async (name) => {
        const { violations } = await page.evaluate(`${axe}; axe.run()`);
        assert.deepEqual(
          violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
          [],
          name,
        );
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} fits`);
        const { SCREENSHOTS: folder } = process.env;
        if (folder) await page.screenshot({ path: `${folder}/${colorScheme}-${width}-${name}.png` });
      };
      await judge("empty");
      await subscribe(page);
      await judge("active");
      await button(page, "Cancel…").click();
      await judge("cancel");
      await page.getByRole("button", { name: "Back" }).click();
      await button(page, "Pause…").click();
      await page.getByLabel("Active again on").fill(day(30));
      await judge("pause");
      await page.getByRole("button", { name: "Pause", exact: true }).click();
      await shows(page, "Paused");
      await judge("paused");
      await page.route(`${api}/**`, (route) => route.fulfill(problem(401, "unauthenticated")));
      await button(page, "Resume").click();
      await page.getByRole("alert").getByText("sign in").waitFor();
      await judge("refused");
    });
  }
}

test("the shop asks nobody but the API, and its policy holds", () => {
  assert.deepEqual(asked, new Set([new URL(address).origin, api]));
  assert.deepEqual(complaints, []);
});
