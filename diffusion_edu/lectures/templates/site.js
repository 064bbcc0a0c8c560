// Light and dark, and a table of contents that knows where the reader is. Without it the pages are whole.
"use strict";
{
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  button.hidden = false;
  button.onclick = () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept */ }
    label();
  };
  system.addEventListener("change", label);
  label();

  const contents = document.querySelector(".toc details"), wide = matchMedia("(min-width: 75em)");
  if (contents) {
    const fit = () => { contents.open = wide.matches; };
    wide.addEventListener("change", fit);
    fit();
    const links = [...contents.querySelectorAll("a")], heads = [...document.querySelectorAll("main h2[id]")];
    for (const link of links) link.addEventListener("click", () => { if (!wide.matches) contents.open = false; });
    let due = false;
    const mark = () => {
      due = false;
      const now = heads.filter((h) => h.getBoundingClientRect().top < innerHeight / 3).at(-1)?.id;
      for (const link of links) link.toggleAttribute("aria-current", link.hash === `#${now}`);
    };
    addEventListener("scroll", () => { if (!due) { due = true; requestAnimationFrame(mark); } }, { passive: true });
    mark();
  }
  addEventListener("beforeprint", () => { if (contents) contents.open = true; });
}
