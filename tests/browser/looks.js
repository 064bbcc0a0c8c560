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

  // Every slider and choice that is alive, to all its ends and back.
  async moveAll(root) {
    const pause = () => new Promise((done) => setTimeout(done, 30));
    const settled = async () => { do await pause(); while (root.dataset.idle === "false"); };
    const look = () => [...root.querySelectorAll("canvas")].map((c) => c.width && c.toDataURL()).join()
      + root.querySelector("[role=status]").textContent;
    const send = async (input, value) => {
      input.value = value;
      for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
      await settled();
    };
    root.querySelector('button[aria-label="pause"]')?.click();
    const wrong = [];
    for (const input of root.querySelectorAll("input[type=range], .dx-controls select")) {
      if (input.disabled || !input.offsetParent) continue;
      const first = input.value, seen = new Set([look()]), label = input.getAttribute("aria-label");
      const ends = input.type === "range" ? [input.min, input.max] : [...input.options].map((o) => o.value);
      for (const end of ends) { await send(input, end); seen.add(look()); }
      await send(input, first);
      if (ends.length > 1 && seen.size < 2) wrong.push(`${label} moves nothing`);
      const notes = root.querySelector(".dx-notes");
      if (notes.querySelector(".error")) wrong.push(`${label}: ${notes.textContent}`);
    }
    return wrong;
  },
};
