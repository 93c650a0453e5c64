// The rows that are wrong: texts, labels, and training rows like them.

function worstSection() {
  const rows = report.worst;
  if (!rows.length) return [lead(say("worst.none"))];
  const regression = report.task === "regression";
  const kept = rows.filter((row) => !state.worstLabel || named(involved(row)).includes(state.worstLabel));
  const shown = kept.slice(0, state.worstShown);
  const rest = kept.length - shown.length;
  const press = () => {
    state.worstShown += 10;
    redraw("worst");
  };
  return [
    lead(say(regression ? "worst.lead.regression" : "worst.lead", { shown: whole(rows.length), count: whole(report.wrong_rows) })),
    rows.some((row) => row.spoke) ? element("p", { class: "soft small" }, say("worst.spoke", { rows: countedRows(rows.filter((row) => row.spoke).length) })) : null,
    regression ? null : element("div", { class: "controls" }, worstFilter(rows)),
    element("ol", { class: "rows" }, shown.map(worstItem)),
    rest > 0 ? element("p", {}, element("button", { type: "button", class: "button", onclick: press }, say("worst.more", { count: whole(Math.min(10, rest)) }))) : null,
  ];
}

// Places of the labels that are wrong: had and not given, or given and not had.
function involved(row) {
  const [had, given] = [new Set(row.true), new Set(row.given)];
  return [...row.true.filter((place) => !given.has(place)), ...row.given.filter((place) => !had.has(place))];
}

function worstFilter(rows) {
  const names = [...new Set(rows.flatMap((row) => named(involved(row))))].sort((a, b) => a.localeCompare(b, locale()));
  const options = [["", say("worst.any")], ...names.map((name) => [name, name])];
  return choice(say("worst.filter"), options, state.worstLabel, (value) => {
    state.worstLabel = value;
    state.worstShown = 10;
    redraw("worst");
    document.querySelector("#worst select").focus();
  });
}

function worstItem(row) {
  const regression = report.task === "regression";
  const sure = regression ? say("worst.off", { error: amount(row.confidence) }) : say("worst.sure", { score: percent(row.confidence) });
  const head = element("header", {}, element("span", {}, say("worst.row", { index: apart(row.index) }), row.cut ? " · " + say("worst.cut") : ""), element("span", {}, sure));
  return element("li", {}, head, rowTexts(row), element("div", { class: "chips" }, regression ? numberChips(row) : labelChips(row)), nearRows(row));
}

function nearRows(row) {
  if (!row.nearest.length) return null;
  const line = (near) => element("li", {}, element("b", {}, nearLabel(near)), ` ${[near.text_a, near.text_b].filter((text) => text !== null).map(apart).join(" | ")} `, element("span", { class: "soft number" }, figure(near.similarity)));
  return element("div", { class: "near" }, element("p", { class: "soft small" }, say("worst.nearest")), element("ul", {}, row.nearest.map(line)));
}

function nearLabel({ label, label_count }) {
  if (!Array.isArray(label)) return typeof label === "number" ? amount(label) : label && apart(label);
  const known = named(label);
  const names = known.map(apart).join(", ") || (label_count ? "…" : "∅");
  return label_count > known.length ? say("note.and_more", { names, count: whole(label_count - known.length) }) : names;
}

function rowTexts(row) {
  if (row.text_a === null) return element("p", { class: "words soft" }, say("worst.no_text"));
  const end = row.shortened ? " …" : "";
  const most = Math.max(0, ...[...(row.spoke || []), ...(row.spoke_b || [])].map((piece) => piece[1]));
  const shown = (text, pieces) => [pieces ? pieces.map(([piece, weight]) => marked(piece, weight, most)) : text, end];
  return [
    element("p", { class: "words", dir: "auto" }, shown(row.text_a, row.spoke)),
    row.text_b === null ? null : element("p", { class: "words second", dir: "auto" }, shown(row.text_b, row.spoke_b)),
    row.wrong.some((verdict) => !verdict.given && verdict.label === row.explained) ? element("p", { class: "soft small" }, say("worst.against", { label: apart(row.explained) })) : null,
  ];
}

function marked(text, weight, most) {
  return weight > 0 && most > 0 ? element("mark", { "--share": (weight / most).toFixed(3) }, text) : text;
}

function labelChips(row) {
  const given = new Set(row.given);
  const right = row.true.filter((place) => given.has(place));
  const others = involved(row).length - row.wrong.length;
  return [
    row.wrong.map((verdict) => {
      const kind = verdict.given ? "given" : report.task === "multilabel" ? "missed" : "true";
      const title = verdict.threshold === null ? null : say("worst.threshold", { threshold: figure(verdict.threshold) });
      return element("span", { class: "chip " + (verdict.given ? "wrong" : "missed"), title }, `${say("worst." + (kind === "given" && report.task !== "multilabel" ? "said" : kind))} `, element("b", {}, apart(verdict.label)), ` ${figure(verdict.score)}`);
    }),
    others ? element("span", { class: "chip" }, say("worst.others", { count: whole(others) })) : null,
    named(right).map((name) => element("span", { class: "chip right" }, say("worst.right") + " ", element("b", {}, apart(name)))),
    right.length > named(right).length ? element("span", { class: "chip right" }, say("worst.others_right", { count: whole(right.length - named(right).length) })) : null,
  ];
}

function numberChips(row) {
  return [
    element("span", { class: "chip wrong" }, say("worst.said") + " ", element("b", {}, amount(row.given))),
    element("span", { class: "chip right" }, say("worst.true") + " ", element("b", {}, amount(row.true))),
  ];
}
