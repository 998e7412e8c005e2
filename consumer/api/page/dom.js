/** Building elements. Text is always set as text, so that no value of an event becomes markup. */

export const byId = (id) => document.getElementById(id);

/**
 * An element: `el("a.class", {href: "…", onclick: f}, child, …)`.
 * Children are elements, texts, or null, which is left out.
 */
export function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A table with a caption, headings and rows of cells. */
export function table(caption, headings, rows) {
  // What is long may take several lines; ids, times and amounts stay whole.
  const cell = (value) => el(typeof value === "string" && value.includes(", ") ? "td.long" : "td", {}, value);
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption.hidden", {}, caption),
      el("thead", {}, el("tr", {}, headings.map((each) => el("th", { scope: "col" }, each)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

/** Pairs of a name and a value as a list, in as many columns as fit; `style` "one" in a single one. */
export function pairs(entries, style = "many") {
  return el(`dl.pairs.${style}`, {}, entries.map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value instanceof Node ? value : String(value)))));
}
