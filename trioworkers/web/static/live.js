// Fetches a live page again and again, and puts its new parts in the place of the old ones. Everything else works without this file.
// Written in ECMAScript 2017. A browser that knows less takes no notice of it; where fetch or DOMParser are missing, pages are as they were fetched.
"use strict";

const body = document.body;
const note = document.getElementById("live-note");
const running = () => document.querySelector("[data-running]");
const again = () => document.querySelector("[data-again]");
const able = Boolean(window.fetch && window.DOMParser);
let misses = 0;
let looking = false;
let leaving = false;

function busyWith(part) {
  // Somebody is about to press something there, or reads it out.
  const selection = document.getSelection();
  return part.contains(document.activeElement) || part.querySelector("details[open]:not([data-stays])") ||
    (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

function writing() {
  // Somebody has ticked or typed something, which a page that is loaded anew would forget.
  return document.querySelector('input[name="pick"]:checked') || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
}

function say(text) {
  if (note.textContent !== text) note.textContent = text;
  note.hidden = !text;
}

function take(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const version = fresh.body.dataset.version;
  if (!version) throw new Error("not ours");
  if (version !== body.dataset.version) {
    // While servers of both versions answer in turn, once a minute is enough.
    leaving = performance.now() > 60000 && !writing();
    if (leaving) location.reload();
    else say("The server has a new version of this page: load it anew.");
    return;
  }
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (busyWith(part)) continue;
    if (!next) part.remove();
    else if (next.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(next));
  }
  say("");
}

async function look() {
  if (document.hidden || looking || leaving || !able) return;
  looking = true;
  let out = false;
  const abort = window.AbortController ? new AbortController() : null;
  const patience = setTimeout(() => { if (abort) abort.abort(); }, 10000);
  try {
    const reply = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" }, signal: abort ? abort.signal : undefined });
    out = reply.status === 401 || reply.status === 403;
    if (!reply.ok) throw new Error(String(reply.status));
    take(await reply.text());
    misses = 0;
  } catch (error) {
    misses += 1;
    say(out ? "Not up to date: you are no longer let in. Load this page anew to log in." : "Not up to date: this page can't be fetched again. It goes on trying.");
  } finally {
    clearTimeout(patience);
    looking = false;
  }
}

function soon() {
  const every = running() ? 1 : Number(body.dataset.live || 0);
  if (again()) { setTimeout(() => location.reload(), 5000); return; }
  if (!every || !able) return;
  setTimeout(async () => { await look(); soon(); }, every * 1000 * Math.min(2 ** misses, 20));
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && body.dataset.live) look(); });

for (const all of document.querySelectorAll("[data-all]")) {
  all.hidden = false;
  const boxes = [...all.closest("table").querySelectorAll('input[name="pick"]')];
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
  let last = null;
  for (const box of boxes) {
    box.addEventListener("click", (event) => {
      if (event.shiftKey && last) {
        const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
        for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
      }
      last = box;
    });
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    const field = document.querySelector('input[name="q"]');
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  }
});

soon();
