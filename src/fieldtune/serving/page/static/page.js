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
