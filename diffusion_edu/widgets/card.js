// A predict card: the reader commits to a guess, locks it, then sees what is computed (see card_view.py). It is the
// ESM of an anywidget, and is inlined in pages without a kernel. Text never becomes HTML: nodes are made of strings.
// makePart comes from card_choice.js, card_number.js or card_curve.js, whichever this card needs.

const fill = (el, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) el.setAttribute(key, value);
  el.append(...children);
  return el;
};
const node = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const short = (v) => String(Number(v.toPrecision(3)));
const clip = (v, low, high) => Math.min(high, Math.max(low, v));

function rich(text) { // **bold**, *italic*, `code`
  const parts = [], marks = /\*\*(.+?)\*\*|(?<![\w*])\*(?=\S)([^*]+?)\*(?![\w*])|`([^`]+)`/g;
  let from = 0;
  for (const found of text.matchAll(marks)) {
    const k = [1, 2, 3].find((i) => found[i]);
    parts.push(text.slice(from, found.index), node(["strong", "em", "code"][k - 1], {}, found[k]));
    from = found.index + found[0].length;
  }
  return [...parts, text.slice(from)];
}

// ---- the card -----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const card = model.get("card"), id = `dxc-${Math.random().toString(36).slice(2)}`;
  const press = (text, onclick) => Object.assign(node("button", { type: "button" }, text), { onclick });
  const lock = press("Lock my guess", () => {
    const guess = part.guess();
    model.send({ lock: guess });
    freeze(guess);
    reveal.focus();
  });
  const reveal = press("Reveal", () => {
    reveal.disabled = true;
    say("Computing \u2026");
    timer = setTimeout(() => say("Computing \u2026 the kernel is busy, or has stopped (then run the cell again)."), 5000);
    model.send({ reveal: true });
  });
  const hint = node("span", { role: "status" }), result = node("div", { class: "dxc-result", role: "status", tabindex: -1, hidden: "" });
  const say = (text) => { clearTimeout(timer); if (hint.textContent !== text) hint.textContent = text; };
  let locked = false, timer = 0;
  const changed = () => {
    if (locked || !part) return;
    lock.disabled = part.guess() === null;
    say(lock.disabled ? part.hint ?? "" : "");
  };
  let part = null;
  part = makePart(card, id, changed);
  const freeze = (guess) => {
    if (locked) return;
    locked = true;
    part.freeze(guess);
    root.classList.add("dxc-locked");
    lock.hidden = true;
    reveal.hidden = false;
    say("Locked.");
  };
  const row = node("div", { class: "dxc-row" }, lock, reveal, hint);
  const root = node("div", { class: "dxc", role: "group", "aria-label": "Predict" },
    node("p", { id: `${id}-q` }, node("strong", {}, "Predict. "), ...rich(card.question)),
    part.el, row, result);
  for (const own of root.querySelectorAll("input, button, svg")) own.dataset.lmSuppressShortcuts = "true"; // JupyterLab's
  reveal.hidden = true;
  changed();
  const update = () => {
    const guess = model.get("guess"), answer = model.get("answer"), error = model.get("error");
    if (guess !== null && guess !== undefined) freeze(guess);
    if (error) { say(error); reveal.disabled = false; }
    if (!answer || !result.hidden) return;
    const focused = root.contains(document.activeElement);
    say("");
    result.hidden = false;
    row.hidden = true;
    result.append(node("p", {}, node("strong", {}, ...part.reveal(answer.value))), node("p", {}, ...rich(answer.why)));
    if (focused) result.focus();
  };
  update();
  el.replaceChildren(root);
  const names = ["change:guess", "change:answer", "change:error"];
  for (const name of names) model.on(name, update);
  return () => { clearTimeout(timer); for (const name of names) model.off(name, update); };
}

function pageModel(state) { // stands for the kernel
  const handlers = {};
  return {
    get: (name) => state[name],
    on: (name, handler) => { handlers[name] = handler; },
    off: (name) => { delete handlers[name]; },
    send({ reveal }) {
      if (!reveal) return;
      state.answer = state.hidden;
      queueMicrotask(handlers["change:answer"]);
    },
  };
}

export default { render };
