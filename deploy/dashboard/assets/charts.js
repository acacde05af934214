// Charts of lines over time, as inline SVG.

import { element, say } from "./text.js";

const WIDTH = 420;
const HEIGHT = 150;
const LEFT = 4;
const RIGHT = 4;
const TOP = 18;
const BOTTOM = 18;
const SECONDS = 300;

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** The least round number that is not less than `value`. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * power).find((each) => each >= value) ?? value;
}

/** One chart. `lines` are [{name, of}], at most two, where `of` takes a sample's value; `format` shows one. */
export class Chart {
  constructor(title, lines, format) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.samples = [];
    this.values = lines.map((line, index) => element("span", { class: index ? "second" : "first" }, line.name));
    this.legend = element("span", { class: "legend" }, ...this.values);
    this.svg = drawn("svg", { class: "chart", role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
    this.figure = element("figure", {}, element("figcaption", {}, element("strong", {}, title), this.legend));
    this.figure.append(this.svg);
    this.pointed = null;
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  /** Shows samples, in the order of time, up to `now`; `step`: seconds between two when none is missing. */
  show(samples, now, step) {
    Object.assign(this, { samples, now, step });
    this.draw();
  }

  point(x) {
    this.pointed = x;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth || WIDTH;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const known = this.samples.flatMap((each) => this.lines.map((line) => line.of(each))).filter((each) => each !== null);
    const top = roundUp(Math.max(0, ...known));
    const x = (at) => LEFT + ((at - this.now + SECONDS) / SECONDS) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    this.svg.replaceChildren(...this.frame(width, top));
    this.lines.forEach((line, index) => {
      this.svg.append(drawn("path", { class: index ? "second" : "first", d: this.path(line, x, y) }));
    });
    const sample = this.chosen(x);
    if (sample !== null && this.pointed !== null) {
      this.svg.append(drawn("line", { class: "cursor", x1: x(sample.at), x2: x(sample.at), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    this.describe(sample, known);
  }

  frame(width, top) {
    const parts = [0, 0.5, 1].map((share) => {
      const at = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
      return drawn("line", { class: "grid", x1: 0, x2: width, y1: at, y2: at });
    });
    const label = (text, attributes) => {
      const made = drawn("text", attributes);
      made.textContent = text;
      return made;
    };
    return [
      ...parts,
      label(this.format(top), { x: 0, y: TOP - 5 }),
      label("5 min ago", { x: 0, y: HEIGHT - 4 }),
      label("now", { x: width, y: HEIGHT - 4, "text-anchor": "end" }),
    ];
  }

  /** The line, interrupted where nothing is known. */
  path(line, x, y) {
    let path = "";
    let last = null;
    for (const sample of this.samples) {
      const value = line.of(sample);
      if (value === null) {
        last = null;
        continue;
      }
      const joins = last !== null && sample.at - last <= this.step * 3;
      path += `${joins ? "L" : "M"}${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
      // A lone sample is a dot.
      if (!joins) path += "h0.1";
      last = sample.at;
    }
    return path;
  }

  /** The sample under the pointer, else the last one; null when there is none. */
  chosen(x) {
    if (this.samples.length === 0) return null;
    if (this.pointed === null) return this.samples[this.samples.length - 1];
    const distance = (sample) => Math.abs(x(sample.at) - this.pointed);
    return this.samples.reduce((best, each) => (distance(each) < distance(best) ? each : best));
  }

  describe(sample, known) {
    const told = this.lines.map((line) => `${line.name} ${this.format(sample === null ? null : line.of(sample))}`);
    told.forEach((text, index) => say(this.values[index], text));
    const most = known.length ? `; the most ${this.format(Math.max(...known))}` : "";
    this.svg.setAttribute("aria-label", `${this.title}, the last five minutes: ${told.join(", ")}${most}.`);
  }
}
