// Texts and elements. All that comes from Redis goes through `element`, as text and never as HTML.

const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** What can't be seen, or turns what follows it around, is shown by its code; half a pair stands for a byte. */
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (each) => {
    const code = each.codePointAt(0);
    if (code === 10) return "\n";
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return `\\u{${code.toString(16)}}`;
  });
}

/** Makes an element with attributes and children, which are elements or texts. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) made.append(child instanceof Node ? child : visible(child));
  return made;
}

/** Sets the text of an element, and only when it is another one: screen readers tell of each change. */
export function say(target, text) {
  const shown = visible(text);
  if (target.textContent !== shown) target.textContent = shown;
}

export function state(name) {
  return element("span", { class: "pill", "data-state": name }, name);
}

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? whole.format(value) : number.format(value);
}

/** Milliseconds, as a person says them. */
export function span(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${number.format(value)} ms`;
  if (value < 1000) return `${whole.format(value)} ms`;
  if (value < 60_000) return `${number.format(value / 1000)} s`;
  if (value < 3_600_000) return `${number.format(value / 60_000)} min`;
  return `${number.format(value / 3_600_000)} h`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString();
}

/** Makes the options of a <select> those of `choices`, [value, text] each, and keeps what is chosen. */
export function offer(select, choices) {
  const wanted = JSON.stringify(choices);
  if (select.dataset.choices === wanted) return;
  const chosen = select.value;
  select.dataset.choices = wanted;
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value }, text)));
  select.value = choices.some(([value]) => value === chosen) ? chosen : choices[0][0];
}
