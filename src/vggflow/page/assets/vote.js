"use strict";
// Blind votes: which image is whose is the server's secret. What it sends becomes text, never markup.
(() => {
const $ = (id) => document.getElementById(id);
let pair = -1, busy = false;
const kChosen = { left: "You chose the left image. ", right: "You chose the right image. ", tie: "You called it a tie. " };

// `did`: what brought us here, which the status says with what comes next; eyes see both.
function show(state, did) {
  pair = state.pair;
  const r = state.result, percent = (v) => (100 * v).toFixed(1) + " %";
  $("progress").textContent = `${r.votes} of ${state.of} voted`;
  $("prompt").textContent = pair < 0 ? "All pairs have a vote. Thank you." : state.prompt || "(empty prompt)";
  $("pair").hidden = pair < 0;
  for (const id of ["left", "right", "tie"]) $("choose-" + id).disabled = pair < 0;
  for (const side of ["left", "right"]) {
    if (pair < 0) continue;
    $(side).src = `image?pair=${pair}&side=${side}`;
    $(side).alt = `${side} image of: ${state.prompt}`;
  }
  $("said").textContent = `${did}${r.votes} of ${state.of} voted. ${pair < 0 ? "All pairs have a vote." : "Now: " + (state.prompt || "(empty prompt)")}`;
  $("result").textContent = r.votes === 0 ? "no votes yet" : `${r.b} won ${percent(r.rate)} of ${r.votes} votes (95 %: ${percent(r.low)} to ${percent(r.high)}), ${r.ties} ties, against ${r.a}`;
}
async function ask(name, body, did = "") {
  if (busy) return;
  busy = true;
  try {
    const reply = await fetch(name, body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (reply.ok) show(await reply.json(), did);
    else $("said").textContent = await reply.text();
  } catch {
    $("said").textContent = "the program does not answer; votes so far are saved";
  } finally {
    busy = false;
  }
}
const choose = (choice) => pair >= 0 && ask("vote", { pair, choice }, kChosen[choice]);
const back = () => ask("back", {}, "Went back. ");
for (const side of ["left", "right"]) $(side).addEventListener("load", () => ($(side).style.imageRendering = $(side).naturalWidth < 200 ? "pixelated" : "auto"));
for (const choice of ["left", "right", "tie"]) $("choose-" + choice).addEventListener("click", () => choose(choice));
$("back").addEventListener("click", back);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const act = { ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), ArrowDown: () => choose("tie"), Backspace: back }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
ask("next");
})();
