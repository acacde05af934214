// The dead letters: a page of them, a filter, and, where the server lets it, retry and drop.

import { count, element, offer, say } from "./text.js";

const COLUMNS = ["Key", "Reason", "Function", "Table, column", "When"];

export class Letters {
  constructor() {
    const by = (id) => document.getElementById(id);
    this.target = by("letters");
    this.said = by("said");
    this.filter = by("function");
    this.buttons = { newest: by("newest"), newer: by("newer"), older: by("older"), retry: by("retry"), drop: by("drop") };
    this.pageNumber = by("page-number");
    this.actions = by("actions");
    this.token = by("token");
    this.sure = by("sure");
    // The places that the pages up to this one start from; the first is the newest.
    this.starts = [""];
    this.next = null;
    this.chosen = new Set();
    this.shown = "";
    // Functions that letters name; one may no longer be deployed.
    this.functions = new Set();
    this.connect();
  }

  connect() {
    this.filter.addEventListener("change", () => this.turn([""]));
    this.buttons.newest.addEventListener("click", () => this.turn([""]));
    this.buttons.newer.addEventListener("click", () => this.turn(this.starts.slice(0, -1)));
    this.buttons.older.addEventListener("click", () => this.turn([...this.starts, this.next]));
    this.buttons.retry.addEventListener("click", () => this.change("retry"));
    this.buttons.drop.addEventListener("click", () => this.ask());
    document.getElementById("sure-no").addEventListener("click", () => this.sure.close());
    document.getElementById("sure-yes").addEventListener("click", () => {
      this.sure.close();
      this.change("drop");
    });
    this.actions.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Lets the page change things, or not. */
  allow(changes) {
    if (this.actions.hidden === !changes) return;
    this.actions.hidden = !changes;
    this.shown = "";
  }

  /** Takes the names of the functions that are deployed. */
  know(names) {
    for (const name of names) this.functions.add(name);
    this.offer();
  }

  offer() {
    offer(this.filter, [["", "all"], ...[...this.functions].sort().map((name) => [name, name])]);
  }

  turn(starts) {
    this.starts = starts;
    this.chosen.clear();
    say(this.said, "");
    return this.load();
  }

  /** Asks for the page again; what is the same stays as it is, with its open details and chosen boxes. */
  async load() {
    const start = this.starts[this.starts.length - 1];
    const query = new URLSearchParams({ before: start, function: this.filter.value });
    let answer;
    try {
      const response = await fetch(`/api/letters?${query}`, { signal: AbortSignal.timeout(15_000) });
      answer = await response.json();
    } catch {
      // The state of the page says that nobody answers.
      return;
    }
    if (start !== this.starts[this.starts.length - 1]) return;
    if (answer.error) {
      say(this.said, `The dead letters can't be read now: ${answer.error}`);
      this.failed = true;
      return;
    }
    if (this.failed) say(this.said, "");
    this.failed = false;
    this.next = answer.older;
    for (const name of answer.letters.flatMap((each) => each.functions)) this.functions.add(name);
    this.offer();
    this.show(answer.letters);
  }

  show(letters) {
    const shown = JSON.stringify(letters);
    if (shown !== this.shown) {
      this.shown = shown;
      const places = new Set(letters.map((each) => each.place));
      this.chosen = new Set([...this.chosen].filter((each) => places.has(each)));
      const open = new Set([...this.target.querySelectorAll("details[open]")].map((each) => each.dataset.place));
      this.target.replaceChildren(letters.length ? this.table(letters, open) : this.none());
    }
    this.buttons.newest.disabled = this.buttons.newer.disabled = this.starts.length === 1;
    this.buttons.older.disabled = this.next === null;
    say(this.pageNumber, this.starts.length === 1 && this.next === null ? "" : `page ${this.starts.length}`);
    this.mark();
  }

  none() {
    const text = this.starts.length > 1 ? "No more here." : this.filter.value ? "There are none of this function." : "There are no dead letters.";
    return element("p", { class: "empty" }, text);
  }

  table(letters, open) {
    const head = COLUMNS.map((name) => element("th", { scope: "col", role: "columnheader" }, name));
    if (!this.actions.hidden) head.unshift(element("th", { scope: "col", role: "columnheader" }, this.boxOfAll(letters)));
    return element(
      "table",
      { role: "table", "aria-labelledby": "letters-title" },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
      element("tbody", { role: "rowgroup" }, ...letters.map((each) => this.row(each, open.has(each.place)))),
    );
  }

  row(letter, isOpen) {
    const cell = (label, kind, ...content) => element("td", { role: "cell", class: kind, "data-label": label }, ...content);
    const place = letter.column ? `${letter.table}.${letter.column}` : letter.table;
    const cells = [
      element("th", { scope: "row", role: "rowheader", class: "key name" }, letter.key),
      cell("Reason", "text", element("div", {}, letter.reason), this.details(letter, isOpen)),
      cell("Function", "", letter.functions.join(", ") || letter.deployment),
      cell("Table, column", "", place),
      cell("When", "", element("time", { datetime: letter.at, title: letter.at }, new Date(letter.at).toLocaleString())),
    ];
    if (!this.actions.hidden) cells.unshift(cell("", "box", this.box(letter)));
    return element("tr", { role: "row" }, ...cells);
  }

  details(letter, isOpen) {
    const pairs = letter.image.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
    const fact = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
    const op = letter.op === "d" ? "deleted" : "the hash as it was";
    return element(
      "details",
      { "data-place": letter.place, open: isOpen },
      element("summary", {}, "Details"),
      element("dl", { class: "image" }, ...fact("id", letter.id), ...fact("deployment", letter.deployment), ...fact("target", letter.target), ...fact("shard", letter.shard)),
      element("p", { class: "quiet" }, letter.left_out ? `${op}; ${count(letter.left_out)} more fields are not shown` : op),
      element("dl", { class: "image" }, ...pairs),
    );
  }

  box(letter) {
    const made = element("input", { type: "checkbox", "aria-label": `Choose the letter of ${letter.key}` });
    made.dataset.place = letter.place;
    made.checked = this.chosen.has(letter.place);
    made.addEventListener("change", () => {
      if (made.checked) this.chosen.add(letter.place);
      else this.chosen.delete(letter.place);
      this.mark();
    });
    return made;
  }

  boxOfAll(letters) {
    const made = element("input", { type: "checkbox", id: "choose-all", "aria-label": "Choose all letters of this page" });
    made.addEventListener("change", () => {
      this.chosen = new Set(made.checked ? letters.map((each) => each.place) : []);
      for (const each of this.target.querySelectorAll("input[data-place]")) each.checked = made.checked;
      this.mark();
    });
    return made;
  }

  mark() {
    const none = this.chosen.size === 0;
    this.buttons.retry.disabled = this.buttons.drop.disabled = none;
    const all = document.getElementById("choose-all");
    if (all) {
      const boxes = this.target.querySelectorAll("input[data-place]").length;
      all.checked = boxes > 0 && this.chosen.size === boxes;
      all.indeterminate = !none && !all.checked;
    }
  }

  ask() {
    const number = this.chosen.size;
    say(document.getElementById("sure-text"), `Drop ${number === 1 ? "1 dead letter" : `${count(number)} dead letters`} for good? Their rows stay as they are in SQL.`);
    this.sure.showModal();
  }

  async change(verb) {
    if (!this.token.value) {
      say(this.said, "Type the token first: the one that gearsync dashboard was started with.");
      this.token.focus();
      return;
    }
    let answer;
    try {
      const response = await fetch(`/api/letters/${verb}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token.value}` },
        body: JSON.stringify({ letters: [...this.chosen] }),
        signal: AbortSignal.timeout(60_000),
      });
      answer = await response.json();
    } catch {
      say(this.said, "No answer. What has been done by then shows in the list.");
      return;
    }
    if (!answer.error) this.chosen.clear();
    await this.load();
    this.mark();
    say(this.said, answer.error ?? told(verb, answer));
  }
}

function told(verb, answer) {
  const letters = (number) => (number === 1 ? "1 dead letter" : `${count(number)} dead letters`);
  const done = `${letters(answer.done)} ${verb === "retry" ? "retried" : "dropped"}.`;
  const kept = answer.left ? ` ${letters(answer.left)} stayed: a client is writing their keys, or these are gone, and rows may be kept by policy.` : "";
  const left = answer.uncovered ? ` ${letters(answer.uncovered)} stayed: no deployment captures their keys any more.` : "";
  return done + kept + left;
}
