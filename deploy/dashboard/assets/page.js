// Asks for the figures again and again, and shows them.

import { Charts, Histories, attention, functions, scopes, tables } from "./figures.js";
import { Letters } from "./letters.js";
import { clock, offer, say } from "./text.js";

const AGAIN = 2;
const STATES = {
  starting: ["starting", "Looking for the shards."],
  live: ["live", ""],
  partly: ["some shards are away", ""],
  away: ["Redis is away", ""],
  lost: ["no answer", "gearsync dashboard does not answer; it is asked again."],
};

const by = (id) => document.getElementById(id);
const histories = new Histories();
const charts = new Charts(by("charts"));
const letters = new Letters();
let latest = null;

by("scope").addEventListener("change", () => draw());
document.addEventListener("visibilitychange", () => !document.hidden && look());

function show(state) {
  const [text, detail] = STATES[state];
  const pill = by("state");
  pill.dataset.state = state;
  say(pill, text);
  const when = latest?.at ? `as of ${clock(latest.at)}` : "";
  say(by("detail"), [detail, when].filter(Boolean).join(" "));
  by("main").classList.toggle("gone", state === "away" || state === "lost");
}

function draw() {
  if (latest === null) return;
  charts.show(histories.samples(by("scope").value), latest.now, latest.interval);
}

/** Tables are made anew, but not while somebody has marked text in them. */
function drawTables() {
  const marked = document.getSelection();
  const target = by("shards");
  if (!marked.isCollapsed && target.contains(marked.anchorNode)) return;
  target.replaceChildren(...tables(latest));
}

function take(answer) {
  latest = answer;
  histories.take(answer);
  attention(by("attention"), by("attention-none"), answer);
  // While Redis is away, what was chosen before stays.
  const known = answer.shards.some((each) => each.deployments.length);
  if (known || !by("scope").options.length) offer(by("scope"), scopes(answer));
  letters.know(functions(answer));
  drawTables();
  letters.allow(answer.changes);
  show(answer.state);
  draw();
}

let timer = null;

async function look() {
  clearTimeout(timer);
  try {
    const response = await fetch(`/api/figures?since=${histories.last}`, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(response.statusText);
    take(await response.json());
    await letters.load();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) console.error(error);
    show("lost");
  }
  // A page that nobody sees asks nothing.
  if (!document.hidden) timer = setTimeout(look, 1000 * (latest?.interval ?? AGAIN));
}

look();
