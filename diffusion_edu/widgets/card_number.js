// The number of a predict card; put before card.js, whose helpers it uses, by card_view.py.
// makePart -> {el, hint, guess() or null, freeze(guess), reveal(answer) -> verdict}

const STEPS = 400; // of the slider

function makePart({ low, high, log, close, unit }, id, changed) {
  const digits = Math.max(0, Math.ceil(-Math.log10((high - low) / STEPS)));
  const at = (u) => log ? Number((low * (high / low) ** u).toPrecision(3)) : Number((low + u * (high - low)).toFixed(digits));
  const place = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  const range = node("input", { type: "range", min: 0, max: STEPS, step: 1, value: STEPS / 2,
    "aria-labelledby": `${id}-q`, "aria-valuetext": "no guess yet" });
  const field = node("input", { type: "number", step: "any", min: low, max: high, placeholder: "?", "aria-label": "your guess" });
  const ends = node("div", { class: "dxc-ends" }, node("span", {}, short(low)), node("span", {}, short(high)));
  const el = node("div", { class: "dxc-number" }, range, node("span", { class: "dxc-field" }, field, unit), ends);
  const withUnit = (v) => (unit ? `${short(v)} ${unit}` : short(v));
  let value = null;
  const set = (v, typed) => {
    value = v === null ? v : clip(v, low, high);
    if (!typed) field.value = value ?? "";
    if (value !== null) range.value = STEPS * place(value);
    range.setAttribute("aria-valuetext", value === null ? "no guess yet" : withUnit(value));
    changed();
  };
  range.oninput = range.onpointerup = () => set(at(range.value / STEPS));
  field.oninput = () => set(field.value === "" ? null : Number(field.value), true);
  field.onchange = () => set(value);
  const flag = (v, text) => { // under the slider; its thumb is 16 pixels wide
    const u = clip(place(v), 0.12, 0.88);
    ends.append(node("b", { style: `left: calc(8px + (100% - 16px) * ${u})` }, text));
  };
  return {
    el, guess: () => value,
    freeze(v) { set(v); range.disabled = field.disabled = true; range.onpointerup = null; },
    reveal(right) {
      for (const end of [...ends.children]) end.style.paddingTop = "1.3em";
      flag(right, `\u25B2 ${short(right)}`);
      const off = log ? Math.max(value / right, right / value) : Math.abs(value - right);
      const good = off <= close, how = value > right ? "too large" : "too small";
      const far = log ? `${short(off)} times ${how}` : `${short(off)} ${how}`;
      const verdict = value === right ? "exact" : good ? "close enough" : far;
      return [`${good ? "\u2713" : "\u2717"} You predicted ${withUnit(value)}. Computed: ${withUnit(right)}. That is ${verdict}.`];
    },
  };
}
