// The page works without this: it adds keys, keeps addresses short and says when the server does not answer.
"use strict";

const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
let composing = false;

// While a Chinese or Japanese word is being composed, what stands in the field is not yet what is meant.
document.addEventListener("compositionstart", () => { composing = true; });
document.addEventListener("compositionend", (event) => {
  composing = false;
  event.target.dispatchEvent(new Event("input", { bubbles: true }));
});

document.addEventListener("htmx:configRequest", (event) => {
  const asked = event.detail;
  if (asked.verb !== "get") return;
  if (composing) { event.preventDefault(); return; }
  for (const [name, value] of [...asked.formData]) if (value === "") asked.formData.delete(name);
});

// A refusal that is no page of ours (a proxy's, say) is not put into the page.
function trouble(text) {
  const place = find("#trouble");
  place.textContent = text;
  place.hidden = !text;
}
document.addEventListener("htmx:beforeSwap", (event) => {
  const answer = event.detail.xhr;
  const ours = (answer.getResponseHeader("content-type") || "").startsWith("text/html");
  if (!ours) event.detail.shouldSwap = false;
  trouble(ours ? "" : document.body.dataset.busy.replace("{status}", answer.status));
});
// Screen readers speak of a place that was there before; what has just been put in they pass over.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "results") return;
  const news = find("#results .count, #results .said, #results .note, #results .problem");
  find("#status").textContent = news ? news.textContent.trim().replace(/\s+/g, " ") : "";
});

// An answer is read while the model writes it: its text as text, and what the server made of it when it is whole.
let reading = null;
function stopReading() {
  if (reading) reading.abort();
  reading = null;
}
async function readAnswer() {
  const section = find("#results [data-stream]");
  if (!section || section.dataset.begun) return; // htmx tells of one swap several times
  section.dataset.begun = "yes";
  stopReading();
  const mine = reading = new AbortController();
  try {
    const answer = await fetch(section.dataset.stream, { headers: { "HX-Request": "true" }, signal: mine.signal });
    const there = answer.headers.get("HX-Redirect");
    if (there) { location.assign(there); return; }
    const type = answer.headers.get("content-type") || "";
    if (!type.startsWith("text/event-stream")) {
      if (type.startsWith("text/html")) put(find("#results"), await answer.text());
      else stuck(section, document.body.dataset.busy.replace("{status}", answer.status));
      return;
    }
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = "", ended = false; !ended;) {
      const { value, done } = await pieces.read();
      if (done) { stuck(section, document.body.dataset.offline); return; }
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) ended = happened(section, block) || ended;
    }
  } catch (error) {
    if (!mine.signal.aborted) stuck(section, document.body.dataset.offline);
  }
}
function happened(section, block) {
  const cut = block.indexOf("\ndata: ");
  const name = block.slice("event: ".length, cut);
  const data = JSON.parse(block.slice(cut + "\ndata: ".length));
  const draft = section.querySelector(".draft");
  if (name === "passages") put(find("#read"), data.html);
  if (name === "delta") {
    if (!draft.classList.contains("begun")) { draft.textContent = ""; draft.classList.add("begun"); }
    draft.append(data.text);
    section.querySelector(".note").hidden = false;
  }
  if (name !== "final") return false;
  section.outerHTML = data.html;
  const said = find("#results .said") || find("#results .note");
  if (said) find("#status").textContent = said.textContent.trim().replace(/\s+/g, " ");
  return true;
}
// What the server has made HTML of, in which it escaped every text.
function put(place, html) {
  place.innerHTML = html;
  htmx.process(place);
}
function stuck(section, why) {
  section.removeAttribute("aria-busy");
  section.querySelector(".draft").hidden = true;
  section.querySelector(".note").hidden = true;
  trouble(why);
}
document.addEventListener("htmx:beforeRequest", (event) => { if (event.detail.elt.id === "find") stopReading(); });
document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target.id === "results") readAnswer(); });
document.addEventListener("DOMContentLoaded", readAnswer);
document.addEventListener("htmx:sendError", () => trouble(document.body.dataset.offline));

const stops = () => all(".hit h3 a, .versus .right h3 a, .examples a");
function step(by) {
  const found = stops();
  if (!found.length) return;
  const at = found.indexOf(document.activeElement);
  const next = found[Math.max(0, Math.min(found.length - 1, at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by))];
  next.focus();
  (next.closest("li") || next).scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const field = find("#q");
  const typing = event.target.matches("input, textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey || composing || event.isComposing) return;
  if (event.key === "/" && !typing && field) { event.preventDefault(); field.focus(); field.select(); return; }
  if (event.target === field && event.key === "ArrowDown") { event.preventDefault(); step(1); return; }
  // A search field would empty itself.
  if (event.key === "Escape" && typing) { event.preventDefault(); event.target.blur(); return; }
  if (typing) return;
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
  const said = { y: ".yes", n: ".no" }[event.key];
  const hit = said && event.target.closest(".hit");
  const button = hit && hit.querySelector(`.verdict ${said}`);
  if (button) button.click();
});

// In the comparison a passage, its line and its twin light up together.
function light(event) {
  const row = event.target.closest && event.target.closest(".versus [data-id]");
  all(".versus .lit").forEach((one) => one.classList.remove("lit"));
  const lists = find(".versus");
  if (lists) lists.classList.toggle("pointed", Boolean(row));
  if (row) all(".versus [data-id]").filter((one) => one.dataset.id === row.dataset.id).forEach((one) => one.classList.add("lit"));
}
document.addEventListener("mouseover", light);
document.addEventListener("focusin", light);
