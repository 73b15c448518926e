// The page's calls of the API.
import { API, TIME_ZONE, authorization, customer } from "./config.js";

export const ACTIVE = 1;
export const CANCELLED = 2;
export const PAUSED = 3;

/** Longer than the gateway waits for a function. */
const TIMEOUT = 30_000;
/** Seconds before the second try, and before the third, if the answer does not say how long to wait. */
const WAITS = [1, 3];
/** A customer does not wait for longer, in seconds. */
const PATIENCE = 10;

/** For each refusal that openapi.yaml has for the page's calls. */
const WORDS = {
  already_subscribed: "You have a subscription to this club already, but this browser does not know it. Please ask us.",
  club_not_active: "This club takes no subscriptions at the moment.",
  club_not_found: "There is no such club any more.",
  customer_mismatch: "You are signed in as somebody else. Please sign in again.",
  invalid_request: "The shop has asked for something that cannot be done.",
  nothing_to_skip: "There is nothing to skip: it is not active in that month.",
  too_large: "The shop has asked for something that cannot be done.",
  too_many_changes: "It was changed too often today, or too many changes are scheduled. Please try again later.",
  subscription_not_found: "There is no such subscription any more.",
  unauthenticated: "Please sign in again.",
};
const REFUSED = WORDS.invalid_request;
const FAILED = "The beer clubs do not answer at the moment. Please try again in a minute.";

/** A refusal or a failure of the API. Its message is for the customer. */
export class Problem extends Error {
  /** `retryAfter`: the seconds after which the same call may succeed, if it may. */
  constructor({ code, instance, subscription_id }, { status = 0, retryAfter } = {}) {
    super(WORDS[code] ?? (status >= 400 && status < 500 && !retryAfter ? REFUSED : FAILED));
    this.code = code;
    this.subscription = subscription_id;
    /** The API's log has it under this id. */
    this.reference = instance?.split(":").pop();
    this.retryAfter = retryAfter;
    /** True if the call was sent before. */
    this.repeated = false;
  }
}

export function clubs() {
  return call("GET", "/club");
}

/** The customer's, with their current status and the next one. */
export async function subscriptions() {
  if (authorization) return pages("/subscription");
  const found = await Promise.all(remembered().map((id) => subscription(id).catch(nothingIfGone)));
  return found.flat();
}

export function subscription(id) {
  return call("GET", `/subscription/${encodeURIComponent(id)}`);
}

/** The state of each month that was charged, or was tried to be, the newest first. */
export function charges(id) {
  return call("GET", `/subscription/${encodeURIComponent(id)}/charge`);
}

/** The new subscription's id, or that of the one that there is. */
export async function subscribe(club) {
  try {
    const { id } = await call("POST", `/club/${club}/subscribe`, { customer_id: customer() });
    if (!authorization) localStorage.setItem(memory(), JSON.stringify([...remembered(), id]));
    return id;
  } catch (problem) {
    // An earlier call may have subscribed the customer, and its answer got lost.
    if (problem.code === "already_subscribed" && problem.subscription) return problem.subscription;
    throw problem;
  }
}

export function activate(id) {
  return record(id, { status_id: ACTIVE });
}

/** From a day on; today means now. */
export function cancel(id, from) {
  return record(id, { status_id: CANCELLED, ...since(from) });
}

/** Both are days, and the subscription is active again on the second. */
export function pause(id, from, until) {
  return record(id, { status_id: PAUSED, until, ...since(from) });
}

/** A month such as `2026-12`. */
export async function skip(id, month) {
  try {
    await record(id, { status_id: PAUSED, skip: month });
  } catch (problem) {
    // An earlier try may have skipped the month, and its answer got lost.
    if (problem.code !== "nothing_to_skip" || !problem.repeated) throw problem;
  }
}

/** Lets the status stay what it is at the moment when it would become another one. */
export function undo({ id, status_id, next }) {
  return record(id, { status_id, effect_date: next.effect_date });
}

/** The day that it is in the billing time zone, as a date field has it. */
export function today() {
  return new Intl.DateTimeFormat("en-CA", { timeZone: TIME_ZONE }).format();
}

export function nextMonth() {
  const [year, month] = today().split("-").map(Number);
  return month < 12 ? `${year}-${String(month + 1).padStart(2, "0")}` : `${year + 1}-01`;
}

function since(day) {
  return day > today() ? { effect_date: day } : {};
}

function record(id, entry) {
  return call("POST", `/subscription/${encodeURIComponent(id)}/status`, entry);
}

/** Where the API is open, nobody but this browser knows which subscriptions are the customer's. */
function remembered() {
  return JSON.parse(localStorage.getItem(memory()) ?? "[]");
}

function nothingIfGone(problem) {
  if (problem.code !== "subscription_not_found") throw problem;
  return [];
}

function memory() {
  return `subscriptions of ${customer()}`;
}

/** The items of all pages of this list. */
async function pages(path) {
  const listed = [];
  for (let query = ""; query !== undefined; ) {
    const { content, next } = await exchange("GET", path + query);
    listed.push(...content);
    query = next;
  }
  return listed;
}

async function call(method, path, body) {
  const { content } = await exchange(method, path, body);
  return content;
}

/** Every call may be sent again. Subscribing happens once, and a status that is recorded twice means the same. */
async function exchange(method, path, body) {
  for (const [tries, wait] of [...WAITS, 0].entries()) {
    try {
      return await send(method, path, body);
    } catch (problem) {
      problem.repeated = tries > 0;
      if (!problem.retryAfter || problem.retryAfter > PATIENCE || !wait) throw problem;
      // Customers who were refused at the same moment come back at different ones.
      const seconds = Math.max(problem.retryAfter, wait) * (1 + Math.random() / 2);
      await new Promise((over) => setTimeout(over, 1_000 * seconds));
    }
  }
}

async function send(method, path, body) {
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  let answer, content;
  try {
    if (authorization) headers.authorization = await authorization();
    answer = await fetch(API + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT),
    });
    content = await answer.json();
  } catch {
    throw new Problem({}, { retryAfter: WAITS[0] });
  }
  const { ok, status, headers: answered } = answer;
  if (!ok) throw new Problem(content, { status, retryAfter: Number(answered.get("retry-after")) });
  return { content, next: answered.get("link")?.match(/^<(\?.*)>; rel="next"$/)?.[1] };
}
