// Notes on the figures and the reasons of settings are English sentences in the JSON; here those
// that have a form known in words.json are said in the language of the page, others as they are.

const ALARM = "warning: ";
const isAlarm = (note) => note.startsWith(ALARM);

// The first form that fits is taken, so a more special one stands before a more general one.
const NOTES = Object.keys(words).filter((key) => key.startsWith("note."));
const REASONS = Object.keys(words).filter((key) => key.startsWith("why."));

function translated(sentence, forms = NOTES) {
  for (const key of forms) {
    const found = formOf(words[key][0]).exec(sentence);
    if (found) return say(key, Object.fromEntries(Object.entries(found.groups || {}).map(([hole, value]) => [hole, held(hole, value, forms)])));
  }
  return sentence;
}

// What a hole holds: English sentences have figures by the names that the JSON gives them.
function held(hole, value, forms) {
  if (hole === "task") return known("kind." + value, value);
  if (["figure", "figures", "metric", "metrics"].includes(hole) && state.language === "zh") return value.split(", ").map(metricName).join("、");
  return apart(translated(value, forms));
}

// A sentence with {holes} as an expression that finds what is in them.
function formOf(sentence) {
  const parts = sentence.split(/\{(\w+)\}/);
  return new RegExp("^" + parts.map((part, i) => (i % 2 ? `(?<${part}>[^]*?)` : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))).join("") + "$");
}
