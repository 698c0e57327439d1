"""Accessibility checks in the browser: names, labels, headings, contrast."""

from playwright.async_api import Page

_STRUCTURE = """() => {
  const faults = [];
  const seen = (one) => one.checkVisibility({ visibilityProperty: true });
  const all = (selector) => [...document.querySelectorAll(selector)];
  const named = (one) => {
    const by = one.getAttribute("aria-labelledby");
    if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    return (one.getAttribute("aria-label") || one.textContent || one.getAttribute("title") || "").trim();
  };
  const say = (fault, one) => faults.push(`${fault}: ${one.outerHTML.slice(0, 160)}`);
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title.trim()) faults.push("no title");
  if (all("main").length !== 1) faults.push("not one main");
  if (all("h1").length !== 1) faults.push("not one h1");
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say(`heading of level ${next} after ${level}`, heading);
    if (!named(heading)) say("empty heading", heading);
    level = next;
  }
  const ids = all("[id]").map((one) => one.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) faults.push(`id twice: ${id}`);
  for (const one of all("[aria-labelledby], [aria-describedby]")) {
    const names = `${one.getAttribute("aria-labelledby") ?? ""} ${one.getAttribute("aria-describedby") ?? ""}`;
    for (const id of names.trim().split(/ +/)) if (!document.getElementById(id)) say(`no such id ${id}`, one);
  }
  for (const one of all("input:not([type=hidden]), select, textarea")) {
    if (!one.labels.length && !one.getAttribute("aria-label")) say("no label", one);
  }
  for (const one of all("a[href], button, summary")) if (seen(one) && !named(one)) say("no name", one);
  for (const one of all("img")) if (!one.hasAttribute("alt")) say("no alternative", one);
  for (const one of all("svg")) {
    if (one.getAttribute("aria-hidden") !== "true" && !(one.getAttribute("role") === "img" && named(one))) {
      say("drawing without a name", one);
    }
  }
  for (const one of all("meter, progress")) if (!named(one)) say("no name", one);
  for (const one of all("nav")) if (!named(one)) say("navigation without a name", one);
  for (const one of all("table")) if (!one.querySelector("th[scope]")) say("table without headers", one);
  for (const one of all("[tabindex]")) if (one.tabIndex > 0) say("order of its own", one);
  for (const one of all("li")) if (!["UL", "OL", "MENU"].includes(one.parentElement.tagName)) say("stray item", one);
  for (const one of all("a[target]")) say("opens a window", one);
  for (const one of all("a[href]")) if (!/^(https?:|)$/.test(one.protocol)) say("leads elsewhere", one);
  return faults;
}"""

_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const read = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const over = (top, under) => [0, 1, 2].map((i) => (top[i] * top[3] + under[i] * (255 - top[3])) / 255).concat(255);
  const ground = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), read("Canvas"));
  };
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const faults = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility({ visibilityProperty: true })) continue;
    if (one.closest(".unseen, .skip, title, desc, script, option")) continue;
    const style = getComputedStyle(one);
    const ink = one.closest("svg") ? style.fill : style.color;
    const under = ground(one);
    const found = ratio(over(read(ink), under), under);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    count += 1;
    if (found < (large ? 3 : 4.5)) {
      faults.add(`${found.toFixed(2)} ${ink} on ${under}: <${one.tagName.toLowerCase()} class="${one.className}">`);
    }
  }
  for (const one of document.querySelectorAll("input, select, textarea, button")) {
    if (!one.checkVisibility() || one.type === "hidden") continue;
    const found = ratio(read(getComputedStyle(one).borderTopColor), ground(one.parentElement));
    if (found < 3 && !one.matches("button.main, [type=radio], [type=checkbox]")) {
      faults.add(`border ${found.toFixed(2)}: <${one.tagName} class="${one.className}">`);
    }
  }
  if (!count) faults.add("no text at all");
  return [...faults];
}"""


async def structure(page: Page) -> list[str]:
    """What is wrong with the order and the names of things."""
    return await page.evaluate(_STRUCTURE)


async def contrast(page: Page) -> list[str]:
    """Texts that have less than WCAG 2.2 AA asks for against what is behind them, and edges of what can be used."""
    return await page.evaluate(_CONTRAST)
