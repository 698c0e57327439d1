/* Refreshes the page, copies commands, asks before destructive actions, and handles keyboard shortcuts. Every page works
   without this file. It never inserts text from outside as markup. */
"use strict";

const LOOK_MS = 3000;
const SHARE = 10; // a slow page is requested less often: at most a tenth of the time is spent on making it
const PATIENCE_MS = 10000;
const AGO_MS = 5000;

const query = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/* ---------------------------------------------------------------------------------------------------------- moments */

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function span(seconds) {
  const whole = Math.round(seconds);
  for (let number = 0; number < UNITS.length; number += 1) {
    const [size, name] = UNITS[number];
    if (whole < size) continue;
    const first = Math.floor(whole / size);
    const below = UNITS[number + 1];
    const more = below && first < 10 ? Math.floor((whole % size) / below[0]) : 0;
    return more ? `${first} ${name} ${more} ${below[1]}` : `${first} ${name}`;
  }
  return "0 s";
}

/* Uses the server's clock, not this machine's: `data-now` is when the server rendered the page. */
function begin(root) {
  const now = Number(root.body.dataset.now);
  return now ? now - Date.now() : null;
}

let ahead = begin(document);

function tell() {
  if (ahead === null) return;
  for (const element of all("time[data-ago]")) {
    const seconds = (Date.now() + ahead - Date.parse(element.dateTime)) / 1000;
    const said = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
    if (element.textContent !== said) element.textContent = said;
  }
}

const CLOCK = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  hourCycle: "h23", timeZoneName: "short",
});

/* Shows times by the viewer's clock; the tooltip has both. */
function localise(root) {
  for (const element of all("time[datetime]", root)) {
    const parts = Object.fromEntries(CLOCK.formatToParts(new Date(element.dateTime)).map((one) => [one.type, one.value]));
    const { year, month, day, hour, minute, second, timeZoneName } = parts;
    const said = `${year}-${month}-${day} ${hour}:${minute}:${second} ${timeZoneName}`;
    element.title = `${said} (${element.dateTime})`;
    if (!("ago" in element.dataset)) element.textContent = said;
  }
}

/* ------------------------------------------------------------------------------------------------- staying current */

/* A part is replaced when its rendered markup has changed, but not while someone is using it. */
const rendered = new Map();

/* Relative times don't count as a change. */
function markupOf(part) {
  return part.innerHTML.replace(/(<time[^>]* data-ago[^>]*>)[^<]*/g, "$1");
}

function remember(fresh) {
  for (const part of all("[data-live]", fresh)) rendered.set(part.id, markupOf(part));
}

function isInUse(part) {
  const selection = document.getSelection();
  const selected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  const edited = all("input, textarea, select", part).some((field) => field === document.activeElement);
  return selected || edited || Boolean(query("dialog[open]"));
}

function keyOf(element) {
  return element && (element.id || element.getAttribute("href") || element.dataset.copy);
}

function replace(part, fresh) {
  const opened = all("details[open]", part).map((one) => one.id || query("summary", one).textContent);
  const focused = part.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  part.replaceChildren(...fresh.childNodes);
  part.className = fresh.className;
  for (const one of all("details", part)) {
    if (opened.includes(one.id || query("summary", one).textContent)) one.open = true;
  }
  if (focused) {
    const again = all("a, button, summary, input", part).find((one) => keyOf(one) === focused);
    if (again) again.focus({ preventScroll: true });
  }
  dress(part);
}

const SIGNED_OUT = "Signed out: reload the page";
const OUTDATED = "Out of date: reload the page";
let etag = ""; // of the page shown; empty if a part is older because it was in use

/* The version and the user of a page; parts of a page of another version or user are not used. */
function kindOf(root) {
  const who = all(".who .name, .who .chip", root).map((one) => one.textContent);
  return [query("script[src]", root)?.getAttribute("src"), ...who].join(" ");
}

/* Fetches the page and replaces the parts that have changed; returns why it could not, or "". */
async function refresh() {
  const headers = { accept: "text/html", ...(etag && { "if-none-match": etag }) };
  const reply = await fetch(location.href, { headers, redirect: "manual", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (reply.type === "opaqueredirect") return SIGNED_OUT;
  if (reply.status === 304) return "";
  if (!reply.ok) return `Not current (status ${reply.status}): retrying`;
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (kindOf(fresh) !== kindOf(document)) return OUTDATED;
  const csrf = query("meta[name=csrf]", fresh).content; // changes after a restart or a new sign-in
  for (const field of all("input[name=csrf]")) field.value = csrf;
  ahead = begin(fresh) ?? ahead;
  etag = reply.headers.get("etag") ?? "";
  for (const part of all("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next) continue;
    const markup = markupOf(next);
    if (rendered.get(part.id) === markup) continue;
    if (isInUse(part)) {
      etag = "";
      continue;
    }
    rendered.set(part.id, markup);
    replace(part, document.importNode(next, true));
  }
  tell();
  return "";
}

const stays = query("[data-live]") && !("still" in document.body.dataset);
let timer = null;
let isLooking = false;

/* Refreshes the page again and again while it is visible, one request at a time. */
async function look() {
  clearTimeout(timer);
  if (!stays || isLooking || document.hidden) return; // continues when the page is shown
  isLooking = true;
  const begun = performance.now();
  const trouble = await refresh().catch(() => "Connection lost: retrying");
  isLooking = false;
  say(trouble ? "lost" : "on", trouble || "Live");
  const rest = trouble ? LOOK_MS : Math.max(LOOK_MS, SHARE * (performance.now() - begun));
  if (trouble !== SIGNED_OUT) timer = setTimeout(look, rest);
}

function say(state, text) {
  const live = query("#live");
  if (!live || live.textContent === text) return;
  live.hidden = false;
  live.className = `live ${state}`;
  live.textContent = text;
}

/* ------------------------------------------------------------------------------------------------------- commands */

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    announce(button, "Copied");
  } catch {
    const code = button.parentElement.querySelector("code");
    document.getSelection().selectAllChildren(code);
    announce(button, "Selected");
  }
}

function announce(button, said) {
  const before = button.firstChild.nodeValue;
  button.firstChild.nodeValue = said;
  setTimeout(() => { button.firstChild.nodeValue = before; }, 1500);
}

/* -------------------------------------------------------------------------------------------------- confirmation */

let confirmed = false;

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* Shows a dialog with a heading; `closed` gets the value of the button that closed it. */
function showDialog(title, parts, closed) {
  const dialog = make("dialog", {}, make("h2", { id: "dialog-title", textContent: title }), ...parts);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed(dialog.returnValue);
  });
  dialog.showModal();
}

function ask(form, submitter) {
  const yes = make("button", { value: "yes", className: "main", textContent: submitter?.textContent ?? "Yes" });
  const no = make("button", { value: "no", textContent: "Cancel", autofocus: true });
  const bar = make("form", { method: "dialog", className: "bar" }, yes, no);
  showDialog(submitter?.dataset.confirm || form.dataset.confirm, [bar], (answer) => {
    submitter?.focus();
    if (answer !== "yes") return;
    confirmed = true;
    form.requestSubmit(submitter ?? undefined);
  });
}

function submitting(event) {
  const form = event.target;
  const needed = event.submitter?.dataset.confirm || form.dataset.confirm;
  if (form.method === "post" && needed && !confirmed) {
    event.preventDefault();
    ask(form, event.submitter);
    return;
  }
  confirmed = false;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault(); // a double click
    return;
  }
  form.dataset.sent = "yes";
}

/* --------------------------------------------------------------------------------------------------- the keyboard */

const PLACES = {
  o: ["/", "Overview"], d: ["/documents", "Documents"], c: ["/conflicts", "Conflicts"],
  l: ["/dead-letters", "Dead letters"], h: ["/hotspots", "Hot spots"],
  a: ["/audit", "Audit"], p: ["/policy", "Policy"], s: ["/config", "Configuration"],
};

let leading = 0;

function items() {
  return all("main .attention > li, main tbody tr, main .fields > li").filter((one) => query("a, button", one));
}

function step(by) {
  const found = items();
  if (!found.length) return;
  const at = found.findIndex((one) => one.contains(document.activeElement));
  const next = found[Math.min(found.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by))];
  (query("a.button", next) || query("a, button", next)).focus();
}

function showKeys() {
  if (query("dialog[open]")) return;
  const rows = [["?", "Show this list"], ["/", "Go to search"], ["n, p", "Next and previous row"], ["r", "Refresh now"]];
  for (const [key, [, name]] of Object.entries(PLACES)) rows.push([`g ${key}`, name]);
  const list = make("dl", { className: "facts" });
  for (const [keys, does] of rows) {
    const caps = keys.split(/,? /).flatMap((key) => [make("kbd", {}, key), " "]);
    list.append(make("dt", {}, ...caps), make("dd", {}, does));
  }
  showDialog("Keyboard shortcuts", [list, make("form", { method: "dialog" }, make("button", {}, "Close"))], () => {});
}

function pressed(event) {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || query("dialog[open]")) return;
  if (Date.now() - leading < 1500) {
    leading = 0;
    const place = PLACES[event.key];
    if (place) location.assign(place[0]);
    return;
  }
  const keys = { "?": showKeys, "/": () => query("input[type=search]")?.focus(), n: () => step(1), p: () => step(-1),
    r: look, g: () => { leading = Date.now(); } };
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

/* ---------------------------------------------------------------------------------------------------------- begin */

function dress(root) {
  localise(root);
  for (const button of all("[data-copy]", root)) button.hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  if (event.target.closest("#show-keys")) showKeys();
});
document.addEventListener("submit", submitting);
document.addEventListener("keydown", pressed);
window.addEventListener("pageshow", () => { for (const form of all("form[data-sent]")) delete form.dataset.sent; });
if (query("#notice")) { // reloading the page must not show the notice again
  const here = new URL(location.href);
  for (const name of ["done", "n"]) here.searchParams.delete(name);
  history.replaceState(null, "", here);
}
for (const one of all("[data-script]")) one.hidden = false;
remember(document); // before anything below changes it
dress(document);
setInterval(tell, AGO_MS);
document.addEventListener("visibilitychange", look);
timer = setTimeout(look, LOOK_MS);
