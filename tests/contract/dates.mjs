// Days and months, as customers choose them on the example of a shop. SHOP_URL names it; BROWSER_TIMEZONE is where the
// customers are. The last line of the output tells what each chose, and the id of the subscription.
import { after, before, test } from "node:test";
import { launch } from "./chromium.mjs";

const { SHOP_URL: address, BILLING_TIMEZONE: billing, BROWSER_TIMEZONE: timezoneId } = process.env;
const chosen = {};
let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
  console.log(`chosen: ${JSON.stringify(chosen)}`);
});

/** The page of a new customer, who has subscribed. */
async function visit() {
  const context = await browser.newContext({ timezoneId, locale: "en-US" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(address);
  const club = page.locator("#clubs .card").filter({ hasText: "Lager" });
  await club.getByRole("button", { name: "Subscribe" }).click();
  await page.locator("#own .badge").getByText("Active", { exact: true }).waitFor();
  return page;
}

function press(page, name) {
  return page.getByRole("button", { name, exact: true }).click();
}

/** Waits for the words, and keeps what was chosen. */
async function shows(page, action, words, day) {
  await page.locator("#own .card").getByText(words).waitFor();
  chosen[action] = { id: await page.locator("#own .card").getAttribute("data-id"), day };
}

function written(day) {
  return new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" }).format(new Date(day));
}

/** The first day of a month in the billing time zone; 1 is next month. */
function firstOfAMonth(months) {
  const [year, month] = new Intl.DateTimeFormat("en-CA", { timeZone: billing }).format().split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months, 1)).toISOString().slice(0, 10);
}

test("a customer skips next month", async () => {
  const page = await visit();
  await press(page, "Skip next month");
  await shows(page, "skip", `Pauses on ${written(firstOfAMonth(1))}`, firstOfAMonth(1));
});

test("a customer pauses until a day", async () => {
  const page = await visit();
  await press(page, "Pause…");
  await page.getByLabel("Active again on").fill(firstOfAMonth(2));
  await press(page, "Pause");
  await shows(page, "pause", `Active again from ${written(firstOfAMonth(2))}`, firstOfAMonth(2));
});

test("a customer pauses from a day until another", async () => {
  const page = await visit();
  await press(page, "Pause…");
  await page.getByLabel("Paused from").fill(firstOfAMonth(1));
  await page.getByLabel("Active again on").fill(firstOfAMonth(2));
  await press(page, "Pause");
  await shows(page, "later", `Pauses on ${written(firstOfAMonth(1))}`, firstOfAMonth(1));
});

test("a customer cancels from a day on", async () => {
  const page = await visit();
  await press(page, "Cancel…");
  await page.getByLabel("Cancelled from").fill(firstOfAMonth(1));
  await press(page, "Cancel the subscription");
  await shows(page, "cancel", `Ends on ${written(firstOfAMonth(1))}`, firstOfAMonth(1));
});
