// The choice of a predict card; put before card.js, whose helpers it uses, by card_view.py.
// makePart -> {el, hint, guess() or null, freeze(guess), reveal(answer) -> verdict}

function makePart(card, id, changed) {
  const inputs = card.options.map((_, k) => node("input", { type: "radio", name: id, value: k }));
  const rows = inputs.map((input, k) =>
    node("label", { class: "dxc-option" }, input, node("span", {}, `${"abcde"[k]}) `, ...rich(card.options[k]))));
  const el = node("div", { role: "radiogroup", "aria-labelledby": `${id}-q` }, ...rows);
  const guess = () => { const k = inputs.findIndex((i) => i.checked); return k < 0 ? null : k; };
  el.onchange = changed;
  return {
    el, guess,
    freeze(k) { inputs.forEach((input, i) => Object.assign(input, { checked: i === k, disabled: true })); },
    reveal(right) {
      const mine = guess();
      const mark = (k, name, text) => { rows[k].classList.add(name); rows[k].append(node("b", {}, text)); };
      mark(right, "right", "\u2713 computed");
      if (mine !== right) mark(mine, "wrong", "\u2717 yours");
      const name = `${"abcde"[right]})`;
      return [mine === right ? `\u2713 Right: it is ${name}.` : `\u2717 It is ${name}, you predicted ${"abcde"[mine]}).`];
    },
  };
}
