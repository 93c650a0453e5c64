// Headline figures, the table of labels, and curves.

const FEW_LABELS = 20;
const LOWER_IS_BETTER = new Set(["mse", "rmse", "mae", "log_loss", "hamming_loss", "brier", "ece", "ece_pooled", "ece_label_mean"]);
const COUNTS = new Set(["map_labels", "auroc_labels"]);
const UNBOUNDED = new Set(["mse", "rmse", "mae", "log_loss"]);
const writing = (name) => (UNBOUNDED.has(name) ? amount : figure);

function figuresSection() {
  const bar = report.linear_bar;
  const scale = commonScale(bar);
  const rows = report.headline.map((name) => figureRow(name, bar, scale));
  const heads = ["metric", "model", "interval", bar ? "bar" : null].filter(Boolean);
  const made = element(
    "table",
    { class: "figures" },
    element("thead", {}, element("tr", {}, heads.map((h) => element("th", { scope: "col" }, say("figures." + h))), scaleHead(scale))),
    element("tbody", {}, rows),
  );
  return [lead(say("figures.lead")), bar ? legendOfBar() : null, scrolled(made, say("figures")), bar ? element("p", { class: "soft small" }, say("figures.bar_meaning")) : null, allFigures(bar)];
}

function legendOfBar() {
  return element(
    "p",
    { class: "small soft", "aria-hidden": "true" },
    element("span", { class: "key" }, element("i", { class: "dot" }), say("figures.model")),
    element("span", { class: "key" }, element("i", { class: "diamond" }), say("figures.bar")),
  );
}

// One scale for all headline figures that have bounds, to a tenth around what is on it.
function commonScale(bar) {
  const bounded = report.headline.filter((name) => !UNBOUNDED.has(name));
  const values = bounded
    .flatMap((name) => [report.metrics[name], ...(report.intervals[name] || []), bar ? bar.metrics[name] : null])
    .filter((value) => value !== null && value !== undefined);
  if (!values.length) return null;
  const low = Math.floor(Math.min(...values) * 10 - 0.3) / 10;
  const high = Math.min(1, Math.ceil(Math.max(...values) * 10 + 0.3) / 10);
  return [Math.max(-1, Math.min(...values) >= 0 ? Math.max(0, low) : low), high];
}

function scaleHead(scale) {
  const ends = scale ? scale.map((end) => element("span", {}, figure(end, 1))) : null;
  return element("th", { scope: "col", "aria-hidden": "true" }, element("div", { class: "ends" }, ends));
}

function figureRow(name, bar, scale) {
  const value = report.metrics[name];
  const interval = report.intervals[name];
  const write = writing(name);
  const barValue = bar ? bar.metrics[name] : null;
  const low = LOWER_IS_BETTER.has(name) ? element("div", { class: "soft small" }, say("figures.better_low")) : null;
  return element(
    "tr",
    {},
    element("td", {}, term(name), low),
    element("td", { class: "value number" }, write(value)),
    element("td", { class: "interval number" }, interval ? write(interval[0]) + " – " + write(interval[1]) : ""),
    bar ? element("td", { class: "linear number" }, write(barValue), leadOver(bar, name)) : null,
    element("td", { class: "picture" }, UNBOUNDED.has(name) ? null : track(scale, value, interval, barValue)),
  );
}

function leadOver(bar, name) {
  const lead = bar.lead[name];
  if (!lead) return null;
  const ends = signed(lead[1]) + " – " + signed(lead[2]);
  // an interval without 0 may still rest on few rows: then swaps give as much too often
  const unsure = lead[3] === "not established" && (lead[1] > 0 || lead[2] < 0);
  return [ends, unsure ? say("figures.too_few") : null].filter(Boolean).map((line) => element("div", { class: "soft small" }, line));
}

function track(scale, value, interval, barValue) {
  if (!scale || value === null || value === undefined) return null;
  const [least, most] = scale;
  const at = (v) => Math.min(100, Math.max(0, (100 * (v - least)) / (most - least))) + "%";
  return element(
    "div",
    { class: "track", "aria-hidden": "true" },
    interval ? element("i", { class: "whisker", "--low": at(interval[0]), "--high": at(interval[1]) }) : null,
    barValue === null || barValue === undefined ? null : element("i", { class: "diamond", "--at": at(barValue) }),
    element("i", { class: "dot", "--at": at(value) }),
  );
}

function allFigures(bar) {
  const names = Object.keys(report.metrics);
  const shown = (name, value) => (COUNTS.has(name) && value !== null ? whole(value) : writing(name)(value, 4));
  const rows = names.map((name) => [term(name), shown(name, report.metrics[name]), ...(bar ? [shown(name, bar.metrics[name] ?? null)] : [])]);
  const columns = [say("figures.metric"), say("figures.model"), ...(bar ? [say("figures.bar")] : [])];
  return more(say("figures.all", { count: names.length }), table(columns, rows));
}

// ---- labels

const LABEL_COLUMNS = ["name", "f1", "precision", "recall", "support", "predicted", "ap", "auroc", "threshold", "train", "group"];
const CELL = {
  name: (row) => row.name,
  group: (row) => groupOf(row.name),
  train: (row) => row.train_count,
  support: (row) => row.support,
  predicted: (row) => row.predicted,
  precision: (row) => row.precision,
  recall: (row) => row.recall,
  f1: (row) => row.f1,
  ap: (row) => row.average_precision,
  auroc: (row) => row.auroc,
  threshold: (row) => row.threshold,
};
const GROUP_ORDER = { head: 3, medium: 2, tail: 1 };

const GROUPS = new Map(report.groups.flatMap((group) => group.labels.map((place) => [nameOf(place), group.name])));
const groupOf = (name) => GROUPS.get(name) ?? null;

function labelsSection() {
  if (!report.per_label.length) return null;
  const used = LABEL_COLUMNS.filter((column) => report.per_label.some((row) => CELL[column](row) !== null && CELL[column](row) !== undefined));
  const place = element("div", {});
  const fill = () => place.replaceChildren(...labelTable(used, fill));
  fill();
  const many = report.per_label.length > FEW_LABELS;
  return [groupsTable(), lead(say("labels.lead")), many ? labelFilter(fill) : null, place, meanings(used), report.labels_left_out ? element("p", { class: "soft small" }, say("labels.left_out", { count: whole(report.labels_left_out) })) : null];
}

function meanings(columns) {
  const told = columns.filter((column) => words["meaning." + column]);
  const list = element("dl", {}, told.map((column) => [element("dt", {}, say("labels." + column)), element("dd", {}, say("meaning." + column))]));
  return more(say("labels.meaning"), list);
}

function groupsTable() {
  if (!report.groups.length) return null;
  const rows = report.groups.map((g) => [
    say("groups." + g.name),
    whole(g.size),
    g.fewest === g.most ? whole(g.most) : say("groups.range", { fewest: whole(g.fewest), most: whole(g.most) }),
    meter(g.f1),
  ]);
  const columns = [say("labels.group"), say("groups.count"), say("groups.rows"), say("groups.f1")];
  return [lead(say("groups.lead")), table(columns, rows, { narrow: true })];
}

function labelFilter(fill) {
  const input = element("input", {
    type: "search",
    name: "label",
    value: state.filter,
    "aria-label": say("labels.filter"),
    placeholder: say("labels.filter"),
    oninput: (event) => {
      state.filter = event.target.value;
      fill();
    },
  });
  return element("div", { class: "controls" }, input);
}

function sortedLabels() {
  const { by, down } = state.sort;
  const value = (row) => {
    if (by === "group") return GROUP_ORDER[groupOf(row.name)];
    const found = CELL[by](row);
    return found === "never" && by === "threshold" ? Number.MAX_VALUE : found;
  };
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (typeof left === "string") return left.localeCompare(right, locale());
    return (left === null || left === undefined ? -1 : left) - (right === null || right === undefined ? -1 : right);
  };
  const kept = report.per_label.filter((row) => row.name.toLowerCase().includes(state.filter.toLowerCase()));
  return kept.sort((a, b) => (down ? -compare(a, b) : compare(a, b)));
}

function labelTable(columns, fill) {
  const rows = sortedLabels();
  const shown = state.allLabels ? rows : rows.slice(0, FEW_LABELS);
  const head = element("tr", {}, columns.map((column) => labelHead(column, fill)));
  const body = shown.map((row) => element("tr", {}, columns.map((column) => element("td", { class: column === "name" ? "text" : "number" }, labelCell(column, row)))));
  const made = scrolled(element("table", { class: "sticky" }, element("thead", {}, head), element("tbody", {}, body)), say("labels"));
  if (rows.length <= FEW_LABELS) return [made];
  const text = state.allLabels ? say("labels.few") : say("labels.all", { count: whole(rows.length) });
  const press = () => {
    state.allLabels = !state.allLabels;
    fill();
  };
  return [made, element("button", { type: "button", class: "button", onclick: press }, text)];
}

function labelHead(column, fill) {
  const sorted = state.sort.by === column;
  const press = () => {
    state.sort = { by: column, down: sorted ? !state.sort.down : column !== "name" };
    fill();
    document.querySelector(`#labels th[data-column="${column}"] button`).focus();
  };
  const text = column === "name" ? "text" : null;
  return element(
    "th",
    { scope: "col", class: text, "data-column": column, "aria-sort": sorted ? (state.sort.down ? "descending" : "ascending") : null },
    element("button", { type: "button", tabindex: 0, onclick: press }, say("labels." + column)),
  );
}

function labelCell(column, row) {
  const value = CELL[column](row);
  if (column === "name") return curveLink(row.name);
  if (column === "group") return value ? say("groups." + value) : "";
  if (column === "f1") return meter(value);
  if (column === "threshold") return value === "never" ? say("labels.never") : figure(value);
  return Number.isInteger(value) && ["train", "support", "predicted"].includes(column) ? whole(value) : figure(value);
}

function curveLink(name) {
  const at = report.curves.findIndex((curve) => curve.label === name);
  if (at < 0) return name;
  const press = () => {
    state.curve = at;
    redraw("curves");
    document.getElementById("curves").scrollIntoView();
  };
  return element("button", { type: "button", class: "link", onclick: press }, name);
}

function meter(value) {
  if (value === null || value === undefined) return "–";
  return [element("span", { class: "meter", "aria-hidden": "true", "--share": 100 * value + "%" }), figure(value)];
}

// ---- precision and recall

function curvesSection() {
  if (!report.curves.length) return null;
  const curve = report.curves[state.curve];
  const name = curve.label === null ? say("curves.pooled") : curve.label;
  const options = report.curves.map((c, i) => [i, c.label === null ? say("curves.pooled") : c.label]);
  const chosen = choice(say("curves.choose"), options, state.curve, (value) => {
    state.curve = Number(value);
    redraw("curves");
    document.querySelector("#curves select").focus();
  });
  const decided = { ap: figure(curve.average_precision), recall: figure(curve.at_recall), precision: figure(curve.at_precision) };
  const cut = curve.threshold === null ? "" : say("curves.cut", { threshold: figure(curve.threshold) });
  const counted = report.curves.filter((c) => c.label !== null).length;
  const drawn = chartFigure({ label: say("curves") + ": " + apart(name), build: () => curveChart(curve, name), numbers: curveNumbers(curve), size: "square" });
  const said = [
    report.curves.length > 1 ? element("div", { class: "controls" }, chosen) : null,
    element("p", { "aria-live": "polite" }, sentences(say("curves.said", decided), cut)),
    curve.label === null ? element("p", {}, say("curves.pooled_lead")) : null,
    curve.steps > curve.recall.length ? element("p", { class: "soft small" }, say("curves.thinned", { points: whole(curve.recall.length), steps: whole(curve.steps) })) : null,
    counted < report.per_label.length && report.task !== "binary" ? element("p", { class: "soft small" }, say("curves.some", { count: whole(counted) })) : null,
  ];
  return [lead(sentences(say("curves.lead"), counted > 1 ? say("curves.others") : "")), element("div", { class: "beside" }, drawn, element("div", {}, said))];
}

function curveChart(curve, name) {
  const others = report.curves.filter((c) => c !== curve && c.label !== null).map((c) => points(c.recall, c.precision));
  const drawn = points(curve.recall, curve.precision).map((p, i) => ({ ...p, threshold: curve.thresholds[i] }));
  const decided = curve.at_precision === null ? [] : [{ x: curve.at_recall, y: curve.at_precision, threshold: curve.threshold }];
  const line = { label: name, data: drawn, borderColor: colour("model"), backgroundColor: colour("model"), borderWidth: 2.25, pointRadius: drawn.length < 30 ? 2.5 : 0, pointHoverRadius: 5, stepped: false, order: 2 };
  const dot = { label: say("curves.decided"), data: decided, borderColor: colour("paper"), backgroundColor: colour("bar"), borderWidth: 2, pointRadius: 8, pointHoverRadius: 9, showLine: false, order: 1 };
  const tooltip = { title: () => name, label: (item) => curveTip(item) };
  return {
    type: "line",
    data: { datasets: [line, dot] },
    options: looks({ x: share(say("curves.recall")), y: share(say("curves.precision")), tooltip }),
    plugins: [behind(others)],
  };
}

function curveTip(item) {
  const { x, y, threshold } = item.raw;
  const lines = [`${say("curves.recall")} ${figure(x)}`, `${say("curves.precision")} ${figure(y)}`];
  if (threshold !== null && threshold !== undefined) lines.push(`${say("curves.threshold")} ${figure(threshold)}`);
  return lines;
}

function curveNumbers(curve) {
  const every = Math.max(1, Math.ceil(curve.recall.length / 25));
  const kept = curve.recall.map((_, i) => i).filter((i) => i % every === 0 || i === curve.recall.length - 1);
  const rows = kept.map((i) => [figure(curve.thresholds[i]), figure(curve.recall[i]), figure(curve.precision[i])]);
  return table([say("curves.threshold"), say("curves.recall"), say("curves.precision")], rows, { narrow: true });
}
