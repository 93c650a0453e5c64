// Calibration, mistakes, numbers, lengths, training, data and notes.

const kindOfTask = () => (report.task === "multilabel" || report.task === "regression" ? report.task : "classes");

// ---- calibration

function calibrationSection() {
  if (report.task === "regression") return null;
  if (!report.calibration.length) return [lead(say("calibration.none"))];
  const multilabel = report.task === "multilabel";
  const last = report.calibration[report.calibration.length - 1];
  const errors = report.calibration.map((c) => [say("calibration." + c.when), figure(c.error, 4)]);
  return [
    lead(say("calibration.lead." + report.task)),
    element(
      "div",
      { class: "beside" },
      chartFigure({ label: say("calibration"), build: calibrationChart, numbers: calibrationNumbers(last, multilabel), size: "square" }),
      element("div", {}, table(["", say("calibration.error")], errors), element("p", { class: "soft small" }, say("definition." + (multilabel ? "ece_pooled" : "ece")))),
    ),
  ];
}

function calibrationChart() {
  const hues = { before: colour("bar"), after: colour("model") };
  const sets = report.calibration.map((c) => {
    const most = Math.max(...c.rows);
    return {
      label: say("calibration." + c.when),
      data: points(c.said, c.came_true).map((p, i) => ({ ...p, rows: c.rows[i] })),
      borderColor: hues[c.when],
      backgroundColor: hues[c.when],
      borderWidth: c.when === "after" ? 2.25 : 1.25,
      pointStyle: c.when === "after" ? "circle" : "rectRot",
      pointRadius: c.rows.map((rows) => 3 + 5 * Math.sqrt(rows / most)),
      pointHoverRadius: 9,
    };
  });
  const said = (item) => [
    `${say("calibration.said")} ${percent(item.raw.x)}`,
    `${say("calibration.came_true")} ${percent(item.raw.y)}`,
    `${say(report.task === "multilabel" ? "calibration.cells" : "calibration.rows")} ${whole(item.raw.rows)}`,
  ];
  const tooltip = { title: (items) => (items.length ? items[0].dataset.label : ""), label: said };
  return {
    type: "line",
    data: { datasets: [...sets, diagonal(say("calibration.perfect"))] },
    options: looks({ x: share(say("calibration.said")), y: share(say("calibration.came_true")), tooltip }),
  };
}

function calibrationNumbers(curve, multilabel) {
  const rows = curve.said.map((said, i) => [figure(said), figure(curve.came_true[i]), whole(curve.rows[i])]);
  const counted = say(multilabel ? "calibration.cells" : "calibration.rows");
  return table([say("calibration.said"), say("calibration.came_true"), counted], rows, { narrow: true });
}

// ---- mistakes

const SIDE_BY_SIDE = 11;

function mistakesSection() {
  const found = report.mistakes;
  if (!found) return null;
  if (!found.pairs.length) return [lead(say("mistakes.none"))];
  const wide = report.task === "multilabel" || found.labels.length > SIDE_BY_SIDE;
  const table = element("div", {}, element("h3", {}, say("mistakes.table")), matrix(found));
  const taken = found.pairs.filter((pair) => pair.true !== null && pair.given !== null);
  const alone = found.pairs.filter((pair) => pair.true === null || pair.given === null);
  const blocks = [pairList("mistakes.pairs", taken), pairList("mistakes.alone", alone), wide ? null : table];
  return [
    lead(say("mistakes.lead." + kindOfTask())),
    element("div", { class: "columns" }, blocks),
    wide ? table : null,
    found.left_out ? element("p", { class: "soft small" }, say("mistakes.left_out", { shown: found.labels.length, count: whole(found.left_out) })) : null,
  ];
}

function pairList(title, pairs) {
  if (!pairs.length) return null;
  const items = pairs.map((pair) => pairItem(pair, pairs[0].rows));
  return element("div", {}, element("h3", {}, say(title)), element("ul", { class: "pairs" }, items));
}

function pairItem(pair, most) {
  const key = pair.given === null ? "mistakes.missed" : pair.true === null ? "mistakes.extra" : "mistakes.arrow";
  return element(
    "li",
    {},
    element("span", {}, say(key, { true: apart(pair.true), given: apart(pair.given) })),
    element("span", { class: "number soft" }, countedRows(pair.rows)),
    element("span", { class: "length", "aria-hidden": "true", "--share": (100 * pair.rows) / most + "%" }),
  );
}

function matrix(found) {
  const extra = found.matrix.length > found.labels.length ? [say("mistakes.nothing")] : [];
  const names = [...found.labels, ...extra];
  const corner = element("th", { class: "soft" }, `${say("mistakes.true")} ↓ ${say("mistakes.given")} →`);
  const largest = Math.max(1, ...found.matrix.flat());
  const head = element("tr", {}, corner, names.map((name) => element("th", { scope: "col", title: name }, element("span", {}, shortName(name)))));
  const body = found.matrix.map((cells, i) => {
    const most = extra.length ? largest : cells.reduce((a, b) => a + b, 0) || 1;
    return element("tr", {}, element("th", { scope: "row", title: names[i] }, names[i]), cells.map((count, j) => matrixCell(count, count / most, i === j && !extra.length, names[i], names[j])));
  });
  const made = scrolled(element("table", {}, element("thead", {}, head), element("tbody", {}, body)), say("mistakes"));
  made.classList.add("matrix");
  return made;
}

function shortName(name) {
  const signs = [...name]; // of an emoji no half
  return signs.length > 9 ? signs.slice(0, 8).join("") + "…" : name;
}

function matrixCell(count, part, right, row, column) {
  const kind = ["number", right ? "" : "wrong", count ? "" : "zero", part > 0.55 ? "strong" : ""].filter(Boolean).join(" ");
  return element("td", { class: kind, title: `${apart(row)} → ${apart(column)}: ${count}`, "--share": part.toFixed(3) }, whole(count));
}

// ---- numbers

function numbersSection() {
  const found = report.numbers;
  if (!found) return null;
  const sampled = found.truth.length < report.rows;
  return [
    lead(sentences(say("numbers.lead"), sampled ? say("numbers.sample", { shown: whole(found.truth.length), rows: whole(report.rows) }) : "")),
    element(
      "div",
      { class: "columns" },
      chartFigure({ caption: say("numbers"), label: say("numbers"), build: () => scatterChart(found), size: "square" }),
      chartFigure({ caption: say("numbers.residuals") + ". " + say("numbers.residuals_lead"), label: say("numbers.residuals"), build: () => residualChart(found), numbers: residualNumbers(found), size: "square" }),
    ),
  ];
}

function scatterChart(found) {
  const every = [...found.truth, ...found.scores];
  const [low, high] = [Math.min(...every), Math.max(...every)];
  const room = (high - low) * 0.04 || 1;
  const span = { type: "linear", min: low - room, max: high + room };
  const dots = { label: say("calibration.rows"), data: points(found.truth, found.scores), backgroundColor: colour("model") + "66", borderWidth: 0, pointRadius: 3.5, pointHoverRadius: 6, showLine: false };
  const tooltip = { title: () => "", label: (item) => [`${say("numbers.truth")} ${amount(item.raw.x)}`, `${say("numbers.score")} ${amount(item.raw.y)}`] };
  return {
    type: "line",
    data: { datasets: [dots, diagonal(say("numbers.exact"), low - room, high + room)] },
    options: looks({ x: axis(say("numbers.truth"), span), y: axis(say("numbers.score"), span), tooltip }),
  };
}

const middles = (edges) => edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);

function residualChart(found) {
  const at = middles(found.edges);
  const set = { label: say("calibration.rows"), data: points(at, found.residuals), backgroundColor: colour("model"), barPercentage: 1, categoryPercentage: 0.94 };
  const tooltip = { title: () => "", label: (item) => [`${say("numbers.residual")} ${amount(found.edges[item.dataIndex])} – ${amount(found.edges[item.dataIndex + 1])}`, countedRows(item.raw.y)] };
  const x = axis(say("numbers.residual"), { type: "linear", offset: false, min: found.edges[0], max: found.edges[found.edges.length - 1] });
  return { type: "bar", data: { datasets: [set] }, options: looks({ x, y: axis(say("calibration.rows"), { beginAtZero: true }), tooltip, legend: false }) };
}

function residualNumbers(found) {
  const rows = found.residuals.map((count, i) => [`${amount(found.edges[i])} – ${amount(found.edges[i + 1])}`, whole(count)]);
  return table([say("numbers.residual"), say("calibration.rows")], rows.filter((_, i) => found.residuals[i]), { narrow: true });
}

// ---- lengths and cutting

function lengthsSection() {
  const found = report.lengths;
  const names = found.map((s) => (s.lowest === s.highest ? whole(s.lowest) : `${whole(s.lowest)}–${whole(s.highest)}`));
  return [
    lead(say("lengths.lead." + kindOfTask())),
    chartFigure({ label: say("lengths"), build: () => lengthChart(found, names), numbers: lengthNumbers(found, names) }),
    element("h3", {}, say("cut")),
    ...cutTable(),
  ];
}

// Of numbers an error has their unit, of labels it is a share.
const errorOf = (value) => (report.task === "regression" ? amount : figure)(value);
const boundsOf = (part) => (part.interval ? part.interval.map(errorOf).join(" – ") : "–");

function lengthChart(found, names) {
  const set = { label: say("lengths.error"), data: found.map((s) => s.error), borderColor: colour("model"), backgroundColor: colour("model"), borderWidth: 2, pointRadius: 5, pointHoverRadius: 7 };
  const tooltip = {
    title: (items) => (items.length ? `${names[items[0].dataIndex]} ${say("lengths.tokens")}` : ""),
    label: (item) => {
      const s = found[item.dataIndex];
      return [`${say("lengths.error")} ${errorOf(s.error)}` + (s.interval ? ` (${boundsOf(s)})` : ""), countedRows(s.rows)];
    },
  };
  const most = Math.max(...found.map((s) => (s.interval ? s.interval[1] : s.error))) * 1.05;
  const top = report.task === "regression" ? most : Math.min(1, most);
  return {
    type: "line",
    data: { labels: names, datasets: [set] },
    options: looks({ x: axis(say("lengths.tokens"), { type: "category", offset: true }), y: axis(say("lengths.error"), { min: 0, suggestedMax: top }), tooltip, legend: false, mode: "index" }),
    plugins: [whiskers(found.map((s) => s.interval))],
  };
}

function lengthNumbers(found, names) {
  const rows = found.map((s, i) => [names[i], whole(s.rows), errorOf(s.error), boundsOf(s)]);
  return table([say("lengths.tokens"), say("lengths.rows"), say("lengths.error"), say("lengths.bounds")], rows, { narrow: true });
}

function cutTable() {
  const { whole: full, cut, windows, metric } = report.truncation;
  if (!cut) return [element("p", {}, say("cut.none", { tokens: tokensRead() }))];
  const row = (name, part) => [say("cut." + name), whole(part.rows), writing(metric)(part.metric), errorOf(part.error), boundsOf(part)];
  const rows = [full ? row("whole", full) : null, row("cut", cut)].filter(Boolean);
  const columns = [say("cut.which"), say("cut.rows"), metricName(metric), say("lengths.error"), say("lengths.bounds")];
  return [lead(say(windows > 1 ? "cut.windows" : "cut.lead", { tokens: tokensRead() })), table(columns, rows)];
}

// ---- training

function trainingSection() {
  const history = report.history;
  if (!history.length) return null;
  const scored = history.filter((h) => h.score !== null);
  // of epochs that are equally good the first is kept
  const best = scored.length ? scored.reduce((a, b) => (b.score > a.score ? b : a)) : null;
  const rows = history.map((h) => [
    String(h.epoch) + (h === best ? " ★" : ""),
    figure(h.loss, 4),
    figure(h.score, 4),
    figure(h.seconds, 0),
  ]);
  const numbers = table([say("training.epoch"), say("training.loss"), say("training.score"), say("training.seconds")], rows, { narrow: true });
  if (history.length < 2) return [lead(say("training.lead")), numbers];
  return [
    lead(say("training.lead")),
    element(
      "div",
      { class: "columns" },
      chartFigure({ caption: say("training.loss"), label: say("training.loss"), build: () => historyChart("loss", colour("bar"), null), size: "low" }),
      scored.length ? chartFigure({ caption: say("training.score"), label: say("training.score"), build: () => historyChart("score", colour("model"), best), size: "low" }) : null,
    ),
    more(say("chart.numbers"), numbers),
  ];
}

function historyChart(key, hue, best) {
  const kept = report.history.filter((h) => h[key] !== null);
  const radius = kept.map((h) => (h === best ? 7 : 4));
  const set = { label: say("training." + key), data: kept.map((h) => h[key]), borderColor: hue, backgroundColor: hue, borderWidth: 2, pointRadius: radius, pointHoverRadius: 8 };
  const tooltip = {
    title: (items) => (items.length ? `${say("training.epoch")} ${items[0].label}` : ""),
    label: (item) => `${say("training." + key)} ${figure(item.raw, 4)}` + (kept[item.dataIndex] === best ? ` (${say("training.best")})` : ""),
  };
  const x = axis(say("training.epoch"), { type: "category", offset: true });
  return { type: "line", data: { labels: kept.map((h) => String(h.epoch)), datasets: [set] }, options: looks({ x, y: axis(say("training." + key)), tooltip, legend: false, mode: "index" }) };
}

// ---- data

function dataSection() {
  const splits = Object.entries(report.split_rows);
  const counted = report.per_label.filter((row) => row.train_count !== null);
  if (!splits.length && !report.audit.length) return null;
  return [
    splits.length ? table([say("data.split"), say("data.rows")], splits.map(([name, rows]) => [say("data." + name), whole(rows)]), { narrow: true }) : null,
    counted.length > 2 ? labelCounts(counted) : null,
    report.audit.length ? auditTable() : null,
  ];
}

function labelCounts(counted) {
  const ordered = [...counted].sort((a, b) => b.train_count - a.train_count);
  const hues = { head: colour("model"), medium: colour("good"), tail: colour("bar") };
  const build = () => ({
    type: "bar",
    data: {
      labels: ordered.map((row) => row.name),
      datasets: [{ label: say("labels.train"), data: ordered.map((row) => row.train_count), backgroundColor: ordered.map((row) => hues[groupOf(row.name)] || colour("model")), barPercentage: 1, categoryPercentage: 0.86 }],
    },
    options: looks({
      x: axis("", { type: "category", grid: { display: false }, ticks: { color: colour("soft"), font: fontOf(11), autoSkip: true, maxRotation: 60, callback: shortened } }),
      y: axis(say("labels.train"), { beginAtZero: true }),
      tooltip: { label: (item) => countedRows(item.raw) },
      legend: false,
      mode: "index",
    }),
  });
  const numbers = table([say("labels.name"), say("labels.train")], ordered.map((row) => [row.name, whole(row.train_count)]), { narrow: true });
  return [element("h3", {}, say("data.per_label")), element("p", { class: "soft small" }, say("data.per_label_lead")), groupKeys(hues), chartFigure({ label: say("data.per_label"), build, numbers, size: "low" })];
}

function groupKeys(hues) {
  const keys = report.groups.map((group) => element("span", { class: "key" }, element("i", { "--hue": hues[group.name] }), say("groups." + group.name)));
  return keys.length ? element("p", { class: "small soft" }, keys) : null;
}

function shortened(value) {
  return shortName(this.getLabelForValue(value));
}

function auditTable() {
  const none = words["audit.none_of_the_labels"][0];
  const name = (found) => say(found.title === none ? "audit.none_of_the_labels" : "audit." + found.code);
  const rows = report.audit.map((found) => [`${found.code} ${name(found)}`, say("severity." + found.severity), whole(found.count)]);
  return [element("h3", {}, say("audit")), lead(say("audit.lead")), table([say("audit.finding"), say("audit.severity"), say("audit.count")], rows, { texts: [1], narrow: true })];
}

// ---- notes

function notesSection() {
  const facts = [...(report.task === "regression" ? [] : decisionFacts(report.rule)), [say("notes.max_length"), tokensRead()]];
  const notes = report.notes.filter((note) => !isAlarm(note));
  const settings = report.settings.map(([key, value, why]) => [key, value, translated(why, REASONS)]);
  return [
    element("h3", {}, say("notes.rule")),
    table(["", ""], facts, { texts: [1], narrow: true }),
    notes.length ? [element("h3", {}, say("notes.missing")), element("ul", {}, notes.map((note) => element("li", {}, translated(note))))] : null,
    settings.length ? more(say("notes.settings"), table([say("notes.setting"), say("notes.value"), say("notes.why")], settings, { texts: [1, 2] })) : null,
    more(say("notes.definitions"), definitions()),
  ];
}

// How scores become labels; what is at its default is not said.
function decisionFacts(rule) {
  return [
    [say("notes.tuner"), known("tuner." + rule.tuner, rule.tuner)],
    [say("notes.objective"), known("objective." + rule.objective, metricName(rule.objective))],
    rule.slopes.length ? [say("notes.calibration"), say("notes.slopes")] : [say("notes.temperature"), figure(rule.temperature)],
    rule.power === 1 ? null : [say("notes.power"), figure(rule.power)],
    rule.bias ? [say("notes.bias"), figure(rule.bias)] : null,
    rule.weights.length ? [say("notes.weights"), say("notes.of_each_class")] : null,
    rule.min_labels ? [say("notes.min_labels"), whole(rule.min_labels)] : null,
    rule.max_labels === null ? null : [say("notes.max_labels"), whole(rule.max_labels)],
    rule.min_confidence === null ? null : [say("notes.min_confidence"), say("notes.undecided", { least: figure(rule.min_confidence, 4) })],
  ].filter(Boolean);
}

function definitions() {
  const names = Object.keys(report.metrics).filter((name) => words["definition." + name]);
  return element("dl", {}, names.map((name) => [element("dt", {}, metricName(name)), element("dd", {}, say("definition." + name))]));
}

render();
