// What is around the pictures: buttons that copy, save and present, and how far long work is.

const OWN = { "data-lm-suppress-shortcuts": "true" }; // else JupyterLab takes the arrow keys, Enter and Escape
const FILES = { png: "PNG picture", gif: "GIF film", mp4: "MP4 film", html: "HTML page" };

const levelText = (t) => String(Number(t.toPrecision(6)));

function paper(el) { // the colour behind it
  for (; el; el = el.parentElement) {
    const { backgroundColor } = getComputedStyle(el);
    if (!/^(transparent|rgba\(.*, 0\))$/.test(backgroundColor)) return backgroundColor;
  }
  return penOf(document.body).paper === "#fffc" ? "#fff" : "#121212"; // what the browser has under text of that colour
}

function download(content, name, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  node("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

class Tools {
  constructor(player) {
    Object.assign(this, { player, jobs: new Map(), named: "" });
    const button = (text, title, onclick) => Object.assign(node("button", { ...OWN, type: "button", title }, text), { onclick });
    this.button = button;
    this.copyButton = button("Copy as code", "Copy Python that makes this picture", () => this.copy());
    this.code = node("pre", { ...OWN, class: "dx-code", tabindex: 0, title: "Press Ctrl+C to copy", hidden: "" });
    const kinds = Object.keys(FILES).filter((kind) => kind === "png" || !player.offline);
    const choices = kinds.map((kind) => button(FILES[kind], `Save as ${kind.toUpperCase()}`, () => this.save(kind)));
    this.menu = node("details", { class: "dx-menu" }, node("summary", { ...OWN, title: "Save as a file" }, "Save"),
      node("div", {}, ...choices));
    this.presentButton = button("Present", "Large letters, full screen; Escape leaves", () => this.present(!this.presenting));
    this.actions = node("span", { class: "dx-actions", hidden: "" });
    this.told = node("span", { "aria-live": "polite" });
    const row = node("div", { class: "dx-tools" }, this.actions, this.copyButton, this.menu, this.presentButton, this.told);
    this.working = node("div");
    this.parts = [row, this.code, this.working];
    const outside = (event) => { if (!event.composedPath().includes(this.menu)) this.menu.open = false; };
    this.menu.ontoggle = () => {
      this.menu.lastChild.style.background = paper(player.root);
      document[this.menu.open ? "addEventListener" : "removeEventListener"]("pointerdown", outside);
    };
    this.escape = (event) => { if (event.key === "Escape" && !event.defaultPrevented) this.present(false); };
    this.left = () => { if (!this.full) this.present(false); }; // by the keys of the browser
  }

  accept(scene) {
    this.copyButton.hidden = !scene.code;
    this.code.hidden = true;
    const actions = this.player.offline ? [] : scene.actions, named = JSON.stringify(actions.map((a) => [a.name, a.label]));
    if (named !== this.named) this.actions.replaceChildren(...actions.map((a) =>
      this.button(a.label, a.help, () => this.player.kernel.ask({ action: a.name }))));
    this.named = named;
    this.actions.hidden = !actions.length;
    actions.forEach((a, i) => Object.assign(this.actions.children[i], { disabled: a.enabled === false, title: a.help ?? "" }));
  }

  keydown(event) { // Escape closes one thing at a time
    if (event.key !== "Escape") return;
    if (this.menu.open) { this.menu.open = false; this.menu.firstChild.focus(); }
    else if (this.player.picked) this.player.pick(null);
    else return;
    event.preventDefault();
  }

  // ---- copy and save
  async copy() {
    const text = this.player.scene.code.replaceAll("{t}", levelText(this.player.t));
    try {
      await navigator.clipboard.writeText(text);
      this.copyButton.textContent = "Copied";
      setTimeout(() => { this.copyButton.textContent = "Copy as code"; }, 1500);
    } catch { // not allowed, or not a safe page: the reader copies it
      Object.assign(this.code, { textContent: text, hidden: false });
      this.code.focus();
      getSelection().selectAllChildren(this.code);
    }
  }
  save(kind) {
    this.menu.open = false;
    this.menu.firstChild.focus();
    if (kind !== "png") return this.player.kernel.ask({ save: kind });
    const name = `${this.player.scene.title.replace(/[^\w-]+/g, "_").slice(0, 60) || "picture"}.png`;
    this.picture().toBlob((blob) => download(blob, name, "image/png"));
  }
  picture() { // the panels and the line of text, as the reader sees them
    const { panels, canvases, status } = this.player, pad = 10, ratio = window.devicePixelRatio || 1;
    const figures = [...panels.children].map((el) => el.getBoundingClientRect());
    const most = (side) => Math.max(...figures.map(side));
    const left = -most((b) => -b.left) - pad, top = -most((b) => -b.top) - pad;
    const wide = most((b) => b.right) - left + pad, below = most((b) => b.bottom) - top;
    const sheet = document.createElement("canvas"), ctx = sheet.getContext("2d");
    const styled = (el) => {
      const { fontWeight, fontSize, fontFamily, color } = getComputedStyle(el);
      ctx.font = `${fontWeight} ${fontSize} ${fontFamily}`;
      return color;
    };
    styled(status);
    const line = 1.4 * parseFloat(ctx.font.match(/[\d.]+px/)), last = words(ctx, status.textContent, wide - 2 * pad);
    Object.assign(sheet, { width: wide * ratio, height: (below + pad + line * (last.at(-1)[0] + 1)) * ratio });
    ctx.scale(ratio, ratio);
    ctx.fillStyle = paper(panels);
    ctx.fillRect(0, 0, sheet.width, sheet.height);
    const place = (el) => { const b = el.getBoundingClientRect(); return [b.left - left, b.top - top, b.width, b.height]; };
    const put = (el, all, x, y) => {
      ctx.fillStyle = styled(el);
      for (const [row, at, word] of all) ctx.fillText(word, x + at, y + (row + 0.75) * line);
    };
    for (const canvas of canvases) {
      ctx.drawImage(canvas, ...place(canvas));
      ctx.strokeStyle = "#8888";
      if (canvas.classList.contains("dx-framed")) ctx.strokeRect(...place(canvas));
    }
    for (const bar of panels.querySelectorAll(".dx-key i")) {
      const [x, y, w, h] = place(bar), stops = RAMPS[bar.dataset.palette], fill = ctx.createLinearGradient(x, 0, x + w, 0);
      stops.forEach((stop, k) => fill.addColorStop(k / (stops.length - 1), rgba(stop)));
      ctx.fillStyle = fill; ctx.fillRect(x, y, w, h);
    }
    for (const el of panels.querySelectorAll("figcaption, .dx-key span")) {
      const [x, y, w] = place(el);
      styled(el);
      put(el, words(ctx, el.textContent, w + 1), x, y);
    }
    put(status, last, pad, below);
    return sheet;
  }

  // ---- presenting
  get full() { return this.player.root.getRootNode().fullscreenElement === this.player.root; }
  present(on) {
    const { root } = this.player, change = on ? "addEventListener" : "removeEventListener";
    if (!on && !this.presenting) return;
    this.presenting = on;
    root.style.background = on ? paper(root) : "";
    root.classList.toggle("dx-present", on);
    this.presentButton.textContent = on ? "Leave" : "Present";
    document[change]("keydown", this.escape);
    document[change]("fullscreenchange", this.left);
    if (on) root.requestFullscreen?.()?.catch(() => {}); // some frames may not: then it is only large
    else if (this.full) document.exitFullscreen();
    this.player.draw();
  }

  // ---- long work in the kernel
  progress({ view, progress, file }, buffers) {
    if (view && view !== this.player.kernel.view) return;
    const { job, label, done, text, error } = progress, ended = done >= 1 && (file || !text || text === "cancelled");
    if (error || ended) {
      this.jobs.get(job)?.remove();
      this.jobs.delete(job);
      if (error) this.player.warn(error);
      if (file) download(buffers[0], file.name, file.type);
      this.told.textContent = file ? `Saved ${file.name}` : text === "cancelled" ? `${label}: cancelled` : "";
      return;
    }
    if (!this.jobs.has(job)) this.begin(job, label);
    const [bar, words_] = this.jobs.get(job).children;
    bar.value = done;
    words_.textContent = text ? `${label}: ${text}` : label;
  }
  begin(job, label) {
    const cancel = this.button("Cancel", `Cancel: ${label}`, () => {
      cancel.disabled = true;
      this.player.kernel.ask({ cancel: job });
    });
    const row = node("div", { class: "dx-job" }, node("progress", { max: 1, "aria-label": label }), node("span"), cancel);
    this.jobs.set(job, row);
    this.working.append(row);
  }
}

const rgba = ([r, g, b, a]) => `rgba(${r}, ${g}, ${b}, ${a / 255})`;

function keyOf(layer) { // the colours of heat, from low to high
  const bar = node("i", { "data-palette": layer.palette, "aria-hidden": "true" });
  bar.style.background = `linear-gradient(90deg, ${RAMPS[layer.palette].map(rgba).join()})`;
  return node("div", { class: "dx-key" }, node("span", {}, short(layer.low)), bar, node("span", {}, short(layer.high)),
    ...(layer.label ? [node("span", {}, layer.label)] : []));
}
