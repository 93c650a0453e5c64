// Notes on the figures are English sentences in the JSON; here those that have a form known in
// words.json are said in the language of the page, others as they are.

const ALARM = "warning: ";
const isAlarm = (note) => note.startsWith(ALARM);

// The first form that fits is taken, so a more special one stands before a more general one.
const NOTES = [
  "note.nothing_given",
  "note.one_answer",
  "note.constant_output",
  "note.constant_number",
  "note.one_class_outweighs",
  "note.threshold_wrong",
  "note.never",
  "note.always",
  "note.how",
  "note.no_interval",
  "note.narrow",
  "note.without_width",
  "note.share",
  "note.confusion",
];

function translated(sentence) {
  for (const key of NOTES) {
    const found = formOf(words[key][0]).exec(sentence);
    if (found) return say(key, Object.fromEntries(Object.entries(found.groups || {}).map(([name, value]) => [name, translated(value)])));
  }
  return sentence;
}

// A sentence with {holes} as an expression that finds what is in them.
function formOf(sentence) {
  const parts = sentence.split(/\{(\w+)\}/);
  return new RegExp("^" + parts.map((part, i) => (i % 2 ? `(?<${part}>[^]*?)` : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))).join("") + "$");
}
