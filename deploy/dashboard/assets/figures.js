// The figures: what was told of each place in the last minutes, the charts over it, and the tables of shards.

import { Chart } from "./charts.js";
import { count, element, rate, span, state, visible } from "./text.js";

const SECONDS = 300;

/** The samples of each place ("all", a shard, a deployment, a function), gathered from one answer after another. */
export class Histories {
  constructor() {
    this.of = new Map();
    this.last = 0;
  }

  /** Takes an answer of /api/figures. */
  take(answer) {
    const before = this.last;
    if (answer.at < before) {
      // The clock was set back.
      this.of.clear();
    }
    this.last = answer.at;
    for (const shard of answer.shards) {
      for (const deployment of shard.deployments) this.takeDeployment(shard, deployment);
    }
    for (const [place, samples] of this.of) {
      const kept = [...samples.values()].filter((each) => each.at > answer.at - SECONDS).sort((a, b) => a.at - b.at);
      if (kept.length) this.of.set(place, new Map(kept.map((each) => [each.at, each])));
      else this.of.delete(place);
    }
  }

  takeDeployment(shard, deployment) {
    for (const sample of deployment.history) {
      for (const place of ["all", `shard ${shard.address}`, `deployment ${deployment.name}`]) this.add(place, sample);
    }
    for (const one of deployment.functions) {
      // What waits, and how long, is known of the target alone.
      for (const [at, ins, outs] of one.history) this.add(`function ${one.name}`, [at, ins, outs, null, null]);
    }
  }

  add(place, [at, ins, outs, backlog, lag]) {
    if (!this.of.has(place)) this.of.set(place, new Map());
    const samples = this.of.get(place);
    const there = samples.get(at) ?? { at, in: null, out: null, backlog: null, lag: null };
    samples.set(at, {
      at,
      in: sum(there.in, ins),
      out: sum(there.out, outs),
      backlog: sum(there.backlog, backlog),
      lag: most(there.lag, lag),
    });
  }

  samples(place) {
    return [...(this.of.get(place)?.values() ?? [])];
  }
}

function sum(first, second) {
  return first === null || second === null ? (first ?? second) : first + second;
}

function most(first, second) {
  return first === null || second === null ? (first ?? second) : Math.max(first, second);
}

export class Charts {
  constructor(target) {
    this.charts = [
      new Chart("Changes a second", [{ name: "captured", of: (each) => each.in }, { name: "to SQL", of: (each) => each.out }], rate),
      new Chart("Backlog", [{ name: "changes that wait", of: (each) => each.backlog }], count),
      new Chart("Lag, p99", [{ name: "from write to commit", of: (each) => each.lag }], span),
    ];
    target.append(...this.charts.map((each) => each.figure));
  }

  show(samples, now, step) {
    for (const each of this.charts) each.show(samples, now, step);
  }
}

/** The choices of what the charts are of, as [place, text]. */
export function scopes(answer) {
  const deployments = answer.shards.flatMap((each) => each.deployments);
  const names = (texts) => [...new Set(texts)].sort();
  return [
    ["all", "all together"],
    ...(answer.shards.length > 1 ? answer.shards.map((each) => [`shard ${each.address}`, `shard ${each.address}`]) : []),
    ...names(deployments.map((each) => each.name)).map((name) => [`deployment ${name}`, `deployment ${name}`]),
    ...functions(answer).map((name) => [`function ${name}`, `function ${name}`]),
  ];
}

/** The names of all functions. */
export function functions(answer) {
  const found = answer.shards.flatMap((shard) => shard.deployments).flatMap((each) => each.functions);
  return [...new Set(found.map((each) => each.name))].sort();
}

const COLUMNS = [
  ["Deployment, function", ""],
  ["State", ""],
  ["In / s", "number"],
  ["Out / s", "number"],
  ["Backlog", "number"],
  ["Lag p50 / p99", "number"],
  ["Dead letters", "number"],
  ["Last error", ""],
];

/** Returns a table for each shard. */
export function tables(answer) {
  return answer.shards.map((shard) => {
    const rows = shard.deployments.flatMap(rowsOf);
    const head = COLUMNS.map(([name, kind]) => element("th", { scope: "col", role: "columnheader", class: kind }, name));
    return element(
      "table",
      { role: "table" },
      captionOf(shard),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
      element("tbody", { role: "rowgroup" }, ...(rows.length ? rows : [nothing(shard)])),
    );
  });
}

function captionOf(shard) {
  const what = shard.up ? `${shard.role}, server ${shard.server}` : shard.error;
  return element("caption", { role: "caption" }, element("strong", {}, shard.address), " ", state(shard.up ? "live" : "away"), " ", element("span", { class: "quiet" }, what));
}

function nothing(shard) {
  const text = shard.up ? "Nothing is deployed here." : "Its figures come back with it.";
  return element("tr", { role: "row" }, element("td", { role: "cell", class: "empty wide", colspan: COLUMNS.length, "data-label": "" }, text));
}

function rowsOf(deployment) {
  const { flow, backlog, lag } = deployment;
  const running = deployment.state === "active" ? deployment.worker.state : deployment.state;
  const whole = row("whole", `${deployment.name} v${deployment.version}`, [
    state(running),
    rate(flow.rate_in),
    rate(flow.rate_out),
    backlogOf(backlog),
    lagOf(lag),
    letters(deployment.dead_letters),
    deployment.last_error,
  ]);
  // The only target is the deployment itself.
  const targets = deployment.targets.length > 1 ? deployment.targets : [];
  const oneError = (text) => (text === deployment.last_error ? "" : text);
  return [
    whole,
    ...targets.map((each) =>
      row("part", `→ ${each.name}`, [
        state(each.state), rate(each.flow.rate_in), rate(each.flow.rate_out), backlogOf(each.backlog),
        lagOf(each.lag), letters(each.dead_letters), oneError(each.last_error),
      ]),
    ),
    ...deployment.functions.map((each) =>
      row("part", `${each.name} → ${each.target}`, [state(each.state), rate(each.flow.rate_in), rate(each.flow.rate_out), each.held ? count(each.held) : null, null, null, ""]),
    ),
  ];
}

function row(kind, name, cells) {
  const shown = cells.map((cell, index) => {
    const [label, align] = COLUMNS[index + 1];
    const wide = label === "Last error";
    const classes = [align, wide ? "text" : "", cell === null || cell === "" ? "blank" : ""].join(" ").trim();
    return element("td", { role: "cell", class: classes, "data-label": label }, cell ?? "");
  });
  return element("tr", { role: "row", class: kind }, element("th", { scope: "row", role: "rowheader", class: "name" }, name), ...shown);
}

/** How many changes wait, of how many that may, and since when if that is no moment. */
function backlogOf(backlog) {
  const limit = backlog.limit_entries ? ` of ${count(backlog.limit_entries)}` : "";
  const oldest = backlog.oldest_ms >= 1000 ? `, the oldest ${span(backlog.oldest_ms)}` : "";
  const text = `${count(backlog.entries)}${limit}`;
  return element(
    "span",
    {},
    backlog.full ? element("span", { class: "bad" }, `${text}, full`) : text,
    oldest,
  );
}

function lagOf(lag) {
  return lag.p99_ms === null ? "–" : `${span(lag.p50_ms)} / ${span(lag.p99_ms)}`;
}

function letters(number) {
  return number ? element("span", { class: "bad" }, count(number)) : "0";
}

/** Shows what needs attention: first the shards that are away. */
export function attention(list, none, answer) {
  const away = answer.shards.filter((each) => !each.up).map((each) => [each.error, "away"]);
  if (answer.problem) away.unshift([answer.problem, "away"]);
  const items = [...away, ...answer.attention.map((each) => [each, null])];
  // A list that stays the same is not said again by a screen reader.
  const wanted = items.map(([text]) => visible(text)).join("\n");
  if (list.dataset.shown !== wanted) {
    list.dataset.shown = wanted;
    list.replaceChildren(...items.map(([text, kind]) => element("li", { class: kind }, text)));
  }
  none.hidden = items.length > 0 || answer.state === "starting";
}
