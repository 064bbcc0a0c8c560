// What test_site_pages.py looks for in a page; all functions answer with a list of what is wrong.
window.looks = {
  // Words outside of code: no dollar, no backslash with a letter after it.
  rawTex() {
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
      const code = node.parentElement.closest("pre, code, script, style");
      if (!code && /\$|\\[a-zA-Z]+/.test(node.data)) found.push(node.data);
    }
    return found;
  },

  emptyFormulas() {
    const empty = (math) => {
      const { width, height } = math.getBoundingClientRect();
      return !(width > 2 && height > 5);
    };
    return [...document.querySelectorAll("math")].filter(empty).map((math) => math.outerHTML.slice(0, 200));
  },

  async blankPictures() {
    const blank = [];
    for (const image of document.querySelectorAll("img")) {
      image.loading = "eager";
      try { await image.decode(); } catch { blank.push(`${image.src.slice(0, 60)} does not decode`); continue; }
      if (!image.src.startsWith("data:")) continue; // file:// forbids a look inside
      const canvas = document.createElement("canvas"), ctx = canvas.getContext("2d");
      Object.assign(canvas, { width: 64, height: 64 });
      ctx.drawImage(image, 0, 0, 64, 64);
      const colours = new Set(new Uint32Array(ctx.getImageData(0, 0, 64, 64).data.buffer));
      if (colours.size < 2) blank.push(image.alt);
    }
    return blank;
  },

  lostAnchors() {
    const lost = (a) => !document.getElementById(decodeURIComponent(a.hash.slice(1)));
    return [...document.querySelectorAll('a[href^="#"]')].filter(lost).map((a) => a.hash);
  },

  addresses() { // of files of the site
    return [...document.querySelectorAll("[href], [src]")].map((e) => e.getAttribute("href") ?? e.getAttribute("src"))
      .filter((a) => a && !/^([a-z]+:|#)/.test(a)).map((a) => decodeURIComponent(a.split("#")[0]));
  },

  tooWide() {
    const out = (e) => e.getBoundingClientRect().right > innerWidth + 1;
    const free = (e) => !e.parentElement.closest(".equation, .wide, pre, .html");
    return [...document.querySelectorAll("body *")].filter((e) => out(e) && free(e)).slice(0, 8)
      .map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 60)}`);
  },

  // Of each canvas a number that tells pictures apart, and whether it is blank: hardly any spread of shades.
  pictures(root) {
    return [...root.querySelectorAll("canvas")].map((canvas) => {
      const table = !!canvas.closest(".dx-table");
      const { width, height } = canvas;
      if (!width || !height) return { sum: 0, blank: true, table };
      const copy = Object.assign(document.createElement("canvas"), { width, height });
      const ctx = copy.getContext("2d", { willReadFrequently: true }); // the page's own would be slowed by it
      ctx.drawImage(canvas, 0, 0);
      const { data } = ctx.getImageData(0, 0, width, height);
      let sum = 0;
      for (const pixel of new Uint32Array(data.buffer)) {
        sum ^= pixel;
        sum = Math.imul((sum << 13) | (sum >>> 19), 0x9e3779b1);
      }
      const spread = [0, 1, 2, 3].map((channel) => {
        let [one, two] = [0, 0];
        for (let i = channel; i < data.length; i += 4) {
          one += data[i];
          two += data[i] ** 2;
        }
        const count = data.length / 4;
        return Math.sqrt(Math.max(two / count - (one / count) ** 2, 0));
      });
      return { sum, blank: Math.max(...spread) <= 3, table }; // of 255
    });
  },

  // Every slider and choice that is alive, to both ends (or `all` that can be chosen) and back; what
  // goes wrong. One of the pictures must differ, none may be blank, and what has come back looks as
  // before. Not compared: tables, which keep what was measured on the way, and, unless `all`, what a slow
  // function (its note says so) has not drawn in time: a page has none.
  async moveAll(root, all) {
    const wrong = [], seconds = 60;
    const notes = () => [...root.querySelectorAll(".dx-notes p.error")].map((p) => p.textContent);
    const settled = async () => {
      const end = performance.now() + 1000 * seconds;
      do await new Promise((done) => setTimeout(done, 30));
      while (root.dataset.idle === "false" && performance.now() < end);
      if (root.dataset.idle === "false") wrong.push(`not done within ${seconds} s`);
      wrong.push(...notes().filter((text) => all || !text.includes("is slow")));
    };
    const look = (label, tables = true) => {
      const drawn = this.pictures(root);
      if (drawn.some((p) => p.blank) && !notes().length) wrong.push(`${label}: a blank picture`);
      return drawn.filter((p) => tables || !p.table).map((p) => p.sum).join();
    };
    const send = async (input, value) => {
      input.value = value;
      for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
      await settled();
    };
    const clock = root.querySelector(".dx-time input[type=range]");
    const toTheMiddle = async () => { // at t = 0 or T many settings have no effect
      const middle = Math.round(0.6 * clock.max);
      if (clock.offsetParent && Number(clock.value) !== middle) await send(clock, middle);
    };
    root.querySelector('button[aria-label="pause"]')?.click();
    await toTheMiddle();
    const start = look("at first", false);
    for (const input of root.querySelectorAll("input[type=range], .dx-controls select")) {
      if (input.disabled || !input.offsetParent) continue;
      const label = input.getAttribute("aria-label"), slider = input.type === "range";
      const number = slider ? root.querySelector(`input[aria-label="${label} (number)"]`) : input;
      const options = slider ? [input.min, input.max] : [...input.options].map((o) => o.value);
      const ends = all ? options : [options[0], options.at(-1)];
      const first = number.value, seen = new Set();
      for (const end of ends) { await send(input, end); seen.add(look(label)); }
      if (options.length > 1 && seen.size < 2) wrong.push(`${label} moves nothing`);
      await send(number, first);
      if (number.value !== first) wrong.push(`${label} comes back to ${number.value}, not ${first}`);
      await toTheMiddle();
      if (look(label, false) === start) continue;
      // It may have narrowed the range of another.
      [...root.querySelectorAll("button")].find((button) => button.textContent === "Reset").click();
      await settled();
      await toTheMiddle();
      if (look(label, false) !== start && !notes().length) wrong.push(`${label} does not come back`);
    }
    return wrong;
  },
};
