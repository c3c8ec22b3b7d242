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
let told = body.dataset.live;

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

function add(next) {
  // What wasn't on the page before: after what stands before it there.
  let before = next.previousElementSibling;
  while (before && !document.getElementById(before.id)) before = before.previousElementSibling;
  const fresh = document.importNode(next, true);
  if (before) document.getElementById(before.id).after(fresh);
  else (document.getElementById(next.parentNode.id) || document.getElementById("main")).prepend(fresh);
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
  if (fresh.body.dataset.live && fresh.body.dataset.live !== told) {
    // The server has more or fewer pages to answer than before.
    told = body.dataset.live = fresh.body.dataset.live;
  }
  for (const next of fresh.querySelectorAll("[data-part]")) {
    if (!document.getElementById(next.id)) add(next);
  }
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (busyWith(part)) continue;
    if (!next) part.remove();
    else if (next.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(next));
  }
  say("");
}

async function fetched(signal) {
  const reply = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" }, signal });
  if (!reply.ok) throw reply;
  return reply.text();
}

async function look() {
  if (document.hidden || looking || leaving || !able) return;
  looking = true;
  const abort = window.AbortController ? new AbortController() : null;
  let patience;
  // A socket may be dead without a word: after a sleep, behind a proxy, before a server that hangs.
  const late = new Promise((_, refuse) => {
    patience = setTimeout(() => { refuse(new Error("late")); if (abort) abort.abort(); }, 10000);
  });
  try {
    const text = await Promise.race([fetched(abort ? abort.signal : undefined), late]);
    misses = 0;
    leaving = Boolean(again());
    if (leaving) location.reload();
    else take(text);
  } catch (error) {
    misses += 1;
    if (error.status === 401 || error.status === 403) say("Not up to date: you are no longer let in. Load this page anew to log in.");
    else if (!again()) say("Not up to date: this page can't be fetched again. It goes on trying.");
  } finally {
    clearTimeout(patience);
    looking = false;
  }
}

function every() {
  // Seconds; 0: never.
  return running() ? 1 : again() ? 5 : Number(body.dataset.live || 0);
}

function soon() {
  if (!every()) return;
  if (able) setTimeout(async () => { await look(); soon(); }, Math.min(every() * 2 ** misses, 60) * 1000);
  else if (again()) setTimeout(() => location.reload(), 5000);
}

function now() {
  if (every()) look();
}

document.addEventListener("visibilitychange", now);
window.addEventListener("online", now);

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
