// The page in a few sentences.

const LEAST_ROWS = 10;

function summary() {
  const sentences = [headline(), rightRows(), bestAndWorst(), confusion(), calibrated(), cutRows()];
  return element(
    "div",
    { class: "summary", role: "region", "aria-label": say("summary") },
    sentences.filter(Boolean).map((sentence) => element("p", {}, sentence)),
  );
}

function headline() {
  const name = report.task === "regression" ? "mae" : report.headline[0];
  const value = report.metrics[name];
  if (value === null || value === undefined) return null;
  const interval = report.intervals[name];
  const write = writing(name);
  const wide = interval && interval[0] < interval[1];
  const said = wide ? say("summary.interval", { low: write(interval[0]), high: write(interval[1]) }) : "";
  return sentences(againstBar(name, value), said);
}

function againstBar(name, value) {
  const bar = report.linear_bar ? report.linear_bar.metrics[name] : null;
  const write = writing(name);
  const values = { metric: metricName(name), value: write(value), bar: write(bar) };
  if (bar === null || bar === undefined) return say("summary.alone", values);
  const lead = report.linear_bar.lead[name];
  if (!lead) return say("summary.bar_number", values);
  const found = { ...values, lead: signed(lead[0]), low: signed(lead[1]), high: signed(lead[2]) };
  if (lead[3] === "not established") return say("summary.bar_equal", found);
  return say(lead[3] === "better" ? "summary.bar_above" : "summary.bar_below", found);
}

function rightRows() {
  if (report.task === "regression") return null;
  const right = report.rows - report.wrong_rows;
  return say(report.task === "multilabel" ? "summary.right" : "summary.right_classes", { right: whole(right), rows: whole(report.rows), share: percent(right / report.rows) });
}

function bestAndWorst() {
  const rows = report.per_label.filter((row) => row.support >= LEAST_ROWS).sort((a, b) => b.f1 - a.f1);
  if (rows.length < 2) return null;
  const best = rows[0];
  const worst = rows[rows.length - 1];
  const values = { least: LEAST_ROWS, best: apart(best.name), best_f1: figure(best.f1), worst: apart(worst.name), worst_f1: figure(worst.f1) };
  return say("summary.best_worst", values);
}

function confusion() {
  const pairs = report.mistakes ? report.mistakes.pairs : [];
  const pair = pairs.find((p) => p.true !== null && p.given !== null);
  return pair ? say("summary.confused", { true: apart(pair.true), given: apart(pair.given), rows: countedRows(pair.rows) }) : null;
}

function calibrated() {
  const [first, last] = [report.calibration[0], report.calibration[report.calibration.length - 1]];
  if (!last) return null;
  const values = { after: percent(last.error), before: percent(first.error) };
  return say(first === last ? "summary.calibration" : "summary.calibrated", values);
}

function cutRows() {
  const { cut } = report.truncation;
  if (!cut) return null;
  return say("summary.cut", { count: whole(cut.rows), rows: whole(report.rows), tokens: tokensRead() });
}
