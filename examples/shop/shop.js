// The page: the customer's subscriptions with what can be done to each, and the clubs that are open.
import * as api from "./api.js";
import { ACTIVE, CANCELLED, PAUSED } from "./api.js";
import { TIME_ZONE } from "./config.js";

const main = document.querySelector("main");
const own = document.querySelector("#own");
const open = document.querySelector("#clubs");
const news = document.querySelector("#news");
const trouble = document.querySelector("#trouble");
const dialogs = { pause: document.querySelector("#pause"), cancel: document.querySelector("#cancel") };

const BADGES = { [ACTIVE]: "Active", [CANCELLED]: "Cancelled", [PAUSED]: "Paused" };
const NEXT = { [ACTIVE]: "Active again from", [CANCELLED]: "Ends on", [PAUSED]: "Pauses on" };
const UNDO = { [ACTIVE]: "Do not activate", [CANCELLED]: "Undo the cancellation", [PAUSED]: "Undo the pause" };
const DONE = {
  activate: "It is active.",
  pause: "The pause is noted.",
  skip: "Next month is skipped.",
  cancel: "The cancellation is noted.",
  undo: "It stays as it is.",
};

/** A month's state, in the customer's words. */
const BOXES = {
  charged: "ordered",
  in_flight: "being ordered",
  unknown: "being checked",
  rejected: "declined",
  not_sent: "not ordered yet",
};

const clubs = new Map();
const subscriptions = new Map();
/** By subscription. */
const boxes = new Map();

function clubName(id) {
  return clubs.get(id)?.name ?? `Club ${id}`;
}

function written(moment) {
  return new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: TIME_ZONE }).format(new Date(moment));
}

/** `2026-12` */
function writtenMonth(month) {
  return new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" }).format(new Date(month));
}

// The page.

function show() {
  const listed = [...subscriptions.values()];
  fill(own, "subscription", listed, showSubscription);
  fill(open, "club", [...clubs.values()], showClub);
  own.previousElementSibling.textContent = listed.length ? "" : "You have none yet.";
  open.previousElementSibling.textContent = clubs.size ? "" : "No club is open at the moment.";
}

/** Cards stay where they are, so the focus does, too. */
function fill(list, template, items, showItem) {
  const cards = new Map([...list.children].map((card) => [card.dataset.id, card]));
  for (const item of items) {
    const card =
      cards.get(String(item.id)) ?? document.querySelector(`#${template}`).content.cloneNode(true).children[0];
    card.dataset.id = item.id;
    const title = card.querySelector("h3");
    title.id = `${template}-${item.id}`;
    for (const button of card.querySelectorAll("button")) button.setAttribute("aria-describedby", title.id);
    showItem(card, item);
    if (!card.isConnected) list.append(card);
  }
}

function showSubscription(card, { id, club_id, status_id, effect_date, next }) {
  const returns = status_id === PAUSED && next?.status_id === ACTIVE;
  card.querySelector("h3").textContent = clubName(club_id);
  card.querySelector(".badge").textContent = BADGES[status_id] ?? "Not active";
  card.querySelector(".badge").dataset.status = status_id;
  card.querySelector(".since").textContent = effect_date ? `since ${written(effect_date)}` : "";
  card.querySelector(".next").textContent = next ? `${NEXT[next.status_id]} ${written(next.effect_date)}` : "";

  const listed = boxes.get(id) ?? [];
  const lines = listed.map(({ month, state }) => {
    const line = document.createElement("li");
    line.textContent = `${writtenMonth(month)}: ${BOXES[state]}`;
    return line;
  });
  card.querySelector(".boxes ul").replaceChildren(...lines);
  card.querySelector(".boxes").hidden = !listed.length;

  const offer = (action, offered, words) => {
    const button = card.querySelector(`[value=${action}]`);
    button.hidden = !offered;
    if (words) button.textContent = words;
  };
  const running = status_id === ACTIVE || status_id === PAUSED;
  offer("activate", status_id !== ACTIVE, status_id === PAUSED ? "Resume" : "Subscribe again");
  offer("skip", running);
  offer("pause", running, status_id === PAUSED ? "Change the date…" : "Pause…");
  offer("undo", status_id && next && !returns, UNDO[next?.status_id]);
  offer("cancel", running);
}

function showClub(card, { id }) {
  const subscribed = [...subscriptions.values()].some(({ club_id }) => club_id === id);
  card.querySelector("h3").textContent = clubName(id);
  const button = card.querySelector("button");
  button.disabled = subscribed;
  button.textContent = subscribed ? "Subscribed" : "Subscribe";
}

function say(where, ...content) {
  news.replaceChildren();
  trouble.replaceChildren();
  if (!content.length) return;
  const message = document.createElement("p");
  message.append(...content);
  where.append(message);
}

function explain(problem) {
  if (!(problem instanceof api.Problem)) throw problem;
  say(trouble, problem.message, ...(problem.reference ? [` Reference: ${problem.reference}`] : []));
}

// The customer's actions.

/** One thing at a time: a click meanwhile does nothing. */
async function doing(work) {
  if (main.ariaBusy === "true") return;
  main.ariaBusy = "true";
  say(news);
  try {
    await work();
  } catch (problem) {
    explain(problem);
  } finally {
    main.ariaBusy = "false";
  }
}

async function load() {
  try {
    const [listed, active] = await Promise.all([api.subscriptions(), api.clubs()]);
    const charges = await Promise.all(listed.map(({ id }) => api.charges(id)));
    for (const [place, subscription] of listed.entries()) {
      subscriptions.set(subscription.id, subscription);
      boxes.set(subscription.id, charges[place]);
    }
    for (const club of active) clubs.set(club.id, club);
  } catch (problem) {
    for (const empty of main.querySelectorAll(".empty")) empty.textContent = "Reload the page to try again.";
    throw problem;
  }
  show();
}

async function change(action, id, ...details) {
  const card = own.querySelector(`[data-id="${CSS.escape(id)}"]`);
  await doing(async () => {
    await (action === "undo" ? api.undo(subscriptions.get(id)) : api[action](id, ...details));
    subscriptions.set(id, await api.subscription(id));
    const focused = document.activeElement;
    show();
    if (card.contains(focused) && focused.hidden) card.querySelector("h3").focus();
    say(news, `${clubName(subscriptions.get(id).club_id)}: ${DONE[action]}`);
  });
}

open.addEventListener("click", ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  const club = Number(target.closest(".card").dataset.id);
  doing(async () => {
    const id = await api.subscribe(club);
    subscriptions.set(id, await api.subscription(id));
    show();
    own.querySelector(`[data-id="${CSS.escape(id)}"] h3`).focus();
    say(news, `You are subscribed to ${clubName(club)}.`);
  });
});

own.addEventListener("click", ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  const { id } = target.closest(".card").dataset;
  if (target.value in dialogs) ask(target.value, subscriptions.get(id));
  else if (target.value === "skip") change("skip", id, api.nextMonth());
  else change(target.value, id);
});

function ask(action, { id, club_id, status_id, next }) {
  const dialog = dialogs[action];
  const { from, until } = dialog.querySelector("form").elements;
  dialog.dataset.id = id;
  dialog.querySelector(".club").textContent = clubName(club_id);
  from.min = from.value = api.today();
  // A paused subscription is paused from now on, and one that ends anyway can end only sooner.
  const later = status_id === ACTIVE && !(action === "cancel" && next?.status_id === CANCELLED);
  from.closest("label").hidden = !later;
  if (until) {
    until.value = "";
    restrict(from, until);
  }
  dialog.showModal();
}

/** A pause ends on a later day than it begins. */
function restrict(from, until) {
  const day = new Date(from.value || api.today());
  day.setUTCDate(day.getUTCDate() + 1);
  until.min = day.toISOString().slice(0, 10);
}

for (const [action, dialog] of Object.entries(dialogs)) {
  const form = dialog.querySelector("form");
  const { from, until } = form.elements;
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  from.addEventListener("input", () => until && restrict(from, until));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    change(action, dialog.dataset.id, from.value, until?.value);
  });
}

main.ariaBusy = "false";
doing(load);
