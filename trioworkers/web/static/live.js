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

function busyWith(part) {
  // Somebody is about to press something there, or reads it out.
  const selection = document.getSelection();
  return part.contains(document.activeElement) || part.querySelector("details[open]:not([data-stays])") ||
    (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

function take(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (fresh.body.dataset.version !== body.dataset.version) { location.reload(); return; }
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (next && !busyWith(part) && next.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(next));
  }
}

async function look() {
  if (document.hidden || looking || !able) return;
  looking = true;
  const abort = window.AbortController ? new AbortController() : null;
  const patience = setTimeout(() => { if (abort) abort.abort(); }, 10000);
  try {
    const reply = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" }, signal: abort ? abort.signal : undefined });
    if (reply.status >= 500 || reply.status === 401 || reply.status === 403) throw new Error(String(reply.status));
    take(await reply.text());
    misses = 0;
    note.hidden = true;
  } catch (error) {
    misses += 1;
    note.textContent = "Not up to date: this page can't be fetched again. It goes on trying.";
    note.hidden = false;
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
