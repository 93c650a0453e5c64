// Builds the page out of the data in it. Texts reach the document through textContent only.

const report = JSON.parse(document.getElementById("report-data").textContent);
const words = JSON.parse(document.getElementById("report-words").textContent);
const LANGUAGES = ["en", "zh"];
const state = {
  language: (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en",
  theme: "auto",
  sort: { by: "support", down: true },
  filter: "",
  allLabels: false,
  curve: 0,
  worstShown: 10,
  worstLabel: "",
};
const darkness = window.matchMedia("(prefers-color-scheme: dark)");

// ---- words and numbers

const LARGE = 1e5;
const SMALL = 1e-4;

function say(key, values = {}) {
  const entry = words[key];
  const text = entry ? entry[LANGUAGES.indexOf(state.language)] : key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

const locale = () => (state.language === "zh" ? "zh-CN" : "en-GB");

function figure(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= LARGE) return scientific(value, 3);
  if (Math.abs(value) >= 100) return whole(Math.round(value));
  return value.toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// What has a unit or no bound may be small: three digits of it, as on the terminal.
function amount(value, digits = 3) {
  const size = Math.abs(value);
  if (!size || size >= 0.01) return figure(value, digits);
  if (size < SMALL) return scientific(value, 3);
  return value.toLocaleString(locale(), { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
}

const scientific = (value, digits) => value.toExponential(digits - 1).replace("e+", "e");

// Of a difference three digits are kept however small it is, so that it is not said to be 0.
function signed(value) {
  return (value > 0 ? "+" : "") + amount(value);
}

function whole(value) {
  return value.toLocaleString(locale());
}

function tokensRead() {
  const { max_length, windows } = report.truncation;
  return windows > 1 ? `${whole(windows)} × ${whole(max_length)}` : whole(max_length);
}

function percent(share) {
  return share.toLocaleString(locale(), { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

const countedRows = (rows) => say(rows === 1 ? "count.row" : "count.rows", { rows: whole(rows) });
const known = (key, name) => (words[key] ? say(key) : name);
const metricName = (name) => known("metric." + name, name);

// Labels of rows and groups are places in the table of labels and, after it, in a list of others.
const named = (places) => places.map(nameOf).filter((name) => name !== undefined);
const nameOf = (place) => (place < report.per_label.length ? report.per_label[place].name : report.other_names[place - report.per_label.length]);

// What may run from right to left is kept apart in a line, so that it turns nothing else; elements
// do not do it for text that ends an isolation which it did not begin.
const RIGHT_TO_LEFT = /[\u0590-\u08FF\u200F\u202A-\u202E\u2066-\u2069\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]/u;
const apart = (name) => (RIGHT_TO_LEFT.test(name) ? `\u2068${name.replace(/[\u2066-\u2069]/g, "")}\u2069` : name);

const sentences = (...parts) => parts.filter(Boolean).join(state.language === "zh" ? "" : " ");

// ---- elements

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return made;
}

function setAttribute(made, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
  else if (name.startsWith("--")) made.style.setProperty(name, value);
  else made.setAttribute(name, value === true ? "" : value);
}

function section(id, title, ...content) {
  return element("section", { id, "aria-labelledby": id + "-title" }, element("h2", { id: id + "-title" }, title), content);
}

const lead = (text) => element("p", { class: "lead" }, text);
const scrolled = (table, name = "") =>
  element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name || say("chart.numbers") }, table);

function term(name) {
  const definition = words["definition." + name];
  if (!definition) return metricName(name);
  return element("details", { class: "term" }, element("summary", {}, metricName(name)), element("p", {}, say("definition." + name)));
}

// A table of texts, numbers and elements; the first column is text, and those named in `texts`.
function table(columns, rows, { texts = [], narrow = false, name = "" } = {}) {
  const kind = (i) => (texts.includes(i) ? "text" : "number");
  const head = columns.some(Boolean) ? element("thead", {}, element("tr", {}, columns.map((c, i) => element("th", { scope: "col", class: kind(i) }, c)))) : null;
  const body = rows.map((row) => element("tr", {}, row.map((cell, i) => element("td", { class: kind(i) }, cell))));
  const made = element("table", { class: narrow ? "narrow" : null }, head, element("tbody", {}, body));
  return scrolled(made, name);
}

function more(title, ...content) {
  return element("details", { class: "more" }, element("summary", {}, title), content);
}

function choice(label, options, selected, onchange) {
  const menu = element("select", { name: "choice", onchange: (event) => onchange(event.target.value) });
  for (const [value, text] of options) {
    menu.append(element("option", { value, selected: String(value) === String(selected) }, text));
  }
  return element("label", {}, element("span", {}, label), menu);
}

// ---- the whole

const SECTIONS = [
  ["figures", "figures", figuresSection],
  ["labels", () => (report.task === "multilabel" ? "labels" : "classes"), labelsSection],
  ["curves", "curves", curvesSection],
  ["numbers", "numbers", numbersSection],
  ["mistakes", "mistakes", mistakesSection],
  ["calibration", "calibration", calibrationSection],
  ["worst", () => (report.task === "regression" ? "worst.regression" : "worst"), worstSection],
  ["lengths", "lengths", lengthsSection],
  ["training", "training", trainingSection],
  ["data", "data", dataSection],
  ["notes", "notes", notesSection],
];

function render() {
  const at = window.scrollY;
  forgetCharts();
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.theme =
    state.theme === "auto" ? (darkness.matches ? "dark" : "light") : state.theme;
  document.title = say("page.title", { model: apart(report.about.model) });
  const made = SECTIONS.map(([id, key, build]) => {
    const title = say(typeof key === "function" ? key() : key);
    const content = build();
    return content ? { id, content: section(id, title, content) } : null;
  }).filter(Boolean);
  document
    .getElementById("page")
    .replaceChildren(topBar(made), element("main", {}, introduction(), made.map((m) => m.content), madeBy()));
  drawCharts();
  window.scrollTo(0, at);
}

function redraw(id) {
  const [, key, build] = SECTIONS.find((entry) => entry[0] === id);
  const title = say(typeof key === "function" ? key() : key);
  document.getElementById(id).replaceWith(section(id, title, build()));
  drawCharts();
}

function topBar(made) {
  const links = made.map((m) => element("a", { href: "#" + m.id }, say("nav." + m.id)));
  return element(
    "div",
    { class: "top" },
    element(
      "div",
      { class: "top-row" },
      element("span", { class: "brand" }, say("page.top")),
      languageSwitch(),
      themeSwitch(),
    ),
    element("nav", { class: "sections", "aria-label": say("page.sections") }, links),
  );
}

function switchOf(label, entries, chosen, choose) {
  const buttons = entries.map(([value, text, name]) =>
    element("button", { type: "button", "aria-pressed": String(value === chosen), "aria-label": name, title: name, onclick: () => choose(value) }, text),
  );
  return element("div", { class: "switch", role: "group", "aria-label": label }, buttons);
}

function languageSwitch() {
  const entries = LANGUAGES.map((code, i) => [code, code === "en" ? "EN" : "中文", words.language[i]]);
  return switchOf(say("switch.language"), entries, state.language, (value) => change("language", value));
}

function themeSwitch() {
  const signs = { auto: "◐", light: "☀\uFE0E", dark: "☾\uFE0E" };
  const entries = Object.entries(signs).map(([value, sign]) => [value, sign, say("theme." + value)]);
  return switchOf(say("switch.theme"), entries, state.theme, (value) => change("theme", value));
}

function change(name, value) {
  state[name] = value;
  render();
}

function introduction() {
  const about = report.about;
  const values = { rows: whole(report.rows), data: apart(about.data) };
  return [
    element("h1", {}, say("page.title", { model: apart(about.model) })),
    element(
      "p",
      { class: "lead" },
      [say("about." + about.split, values), say("task." + report.task, { labels: whole(report.per_label.length + report.labels_left_out) }), about.created].join(" · "),
    ),
    about.seen ? element("p", { class: "warning" }, say("about.seen." + about.seen)) : null,
    report.notes.filter(isAlarm).map((note) => element("p", { class: "warning" }, say("about.alarm", { alarm: translated(note.slice(ALARM.length)) }))),
    about.split === "dev" ? element("p", { class: "privacy" }, say(report.task === "regression" ? "about.chosen" : "about.crossfit")) : null,
    element("p", { class: "privacy" }, report.texts && report.worst.length ? say(report.worst.some((row) => row.nearest.length) ? "about.texts_near" : "about.texts", { count: whole(report.worst.length) }) : say("about.no_texts")),
    summary(),
  ];
}

function madeBy() {
  return element("footer", {}, say("notes.made", { version: report.about.version, created: report.about.created }));
}

darkness.addEventListener("change", render);
