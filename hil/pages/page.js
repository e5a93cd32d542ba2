// Draws every figure of the page, sorts its tables and sets runs side by side; colours named "@x" are the custom property --x of the present theme.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const config = {
    responsive: true,
    displaylogo: false,
    plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function coloured(value) {
    if (typeof value === "string") return value[0] === "@" ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, k === "bdata" ? v : coloured(v)]));
    }
    return value;
  }

  // Height of a legend below a plot of this width: entries stand beside each other as far as there is room.
  function legendHeight(figure, width) {
    if (!figure.layout.showlegend) return 0;
    const names = figure.data.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name.length);
    const entry = 48 + 7 * Math.max(0, ...names);
    return 14 + 20 * Math.ceil(names.length / Math.max(1, Math.floor((width - 40) / entry)));
  }

  // On a narrow screen a colour bar lies below its map, which then has the whole width.
  function fitted(figure, width) {
    const layout = { ...figure.layout };
    layout.height += legendHeight(figure, width);
    if (!figure.aspect) return { data: figure.data, layout };
    if (width > 640) return { data: figure.data, layout };
    const bar = { orientation: "h", thickness: 12, yref: "container", y: 0, yanchor: "bottom", x: 0.5 };
    const data = figure.data.map((t) => (t.colorbar ? { ...t, colorbar: { ...t.colorbar, ...bar, tickangle: t.colorbar.ticktext ? -45 : 0 } } : t));
    for (const { colorbar } of data) if (colorbar.title) colorbar.title = { ...colorbar.title, side: "bottom" };
    layout.margin = { ...layout.margin, l: 0, r: 0, b: 100 };
    layout.height = 124 + width * figure.aspect;
    return { data, layout };
  }

  function themed(layout) {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
    return {
      showlegend: false,
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      margin: { l: 60, r: 20, t: 24, b: 50, ...layout.margin },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("line"), activecolor: colour("soft") },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", xref: "container", x: 0 },
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
    };
  }

  function draw() {
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById("plot-" + name);
      const { data, layout } = fitted(figure, place.clientWidth);
      Plotly.react(place, coloured(data), themed(coloured(layout)), config);
      for (const drawing of place.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
      place.dataset.drawn = "yes";
    }
  }

  // Sorts the rows of a table by what its cells carry: numbers as numbers, the second time the other way round.
  function sort(head) {
    const table = head.closest("table");
    const heads = [...table.tHead.rows[0].cells];
    const up = head.getAttribute("aria-sort") !== "ascending";
    const by = (row) => row.cells[heads.indexOf(head)].dataset.by;
    const numeric = [...table.tBodies[0].rows].every((row) => by(row) !== "" && !Number.isNaN(Number(by(row))));
    const order = (a, b) => (numeric ? Number(by(a)) - Number(by(b)) : by(a).localeCompare(by(b)));
    const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
    table.tBodies[0].append(...rows);
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }

  for (const button of document.querySelectorAll(".sortable th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  // Two rows with a tick stand side by side: a table of each group, with the difference of numbers.
  const boxes = [...document.querySelectorAll(".sortable input")];
  const chosen = [];

  function element(tag, text, scope) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (scope) made.setAttribute("scope", scope);
    return made;
  }

  function change(a, b) {
    if (!a || !b) return "—";
    if (a.value === null || b.value === null) return a.words === b.words ? "" : "differs";
    const by = b.value - a.value;
    const shown = Math.abs(by).toLocaleString("en-US", { minimumFractionDigits: a.digits, maximumFractionDigits: a.digits });
    return ((Number(by.toFixed(a.digits)) < 0 ? "−" : "+") + shown + " " + a.unit).trim();
  }

  function beside() {
    const facts = JSON.parse(document.getElementById("facts").textContent);
    const place = document.getElementById("beside");
    place.replaceChildren();
    const [one, other] = [...chosen].sort((a, b) => boxes.indexOf(a) - boxes.indexOf(b)).map((box) => box.name);
    document.getElementById("chosen").textContent = other ? one + " beside " + other : "No two runs are chosen.";
    if (!other) return;
    const [first, second] = [facts[one], facts[other]];
    const both = [...first, ...second.filter((b) => !first.some((a) => a.group === b.group && a.label === b.label))];
    for (const group of new Set(both.map((fact) => fact.group))) {
      const box = document.createElement("div");
      box.className = "scroll";
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", group);
      const table = box.appendChild(document.createElement("table"));
      table.createCaption().textContent = group;
      const head = table.createTHead().insertRow();
      head.append(element("td", ""), ...[one, other, "difference"].map((words) => element("th", words, "col")));
      const body = table.createTBody();
      for (const { label } of both.filter((fact) => fact.group === group)) {
        const [a, b] = [first, second].map((run) => run.find((fact) => fact.group === group && fact.label === label));
        const cells = [a ? a.words : "—", b ? b.words : "—", change(a, b)].map((words) => element("td", words));
        body.insertRow().append(element("th", label, "row"), ...cells);
      }
      place.append(box);
    }
  }

  for (const box of boxes) {
    box.addEventListener("change", () => {
      if (box.checked) chosen.push(box);
      else chosen.splice(chosen.indexOf(box), 1);
      while (chosen.length > 2) chosen.shift().checked = false;
      beside();
    });
  }

  // The meaning of a word beside it, while the pointer or the focus is on it; Escape closes.
  const meaning = document.getElementById("meaning");
  for (const word of document.querySelectorAll(".explained")) {
    const open = () => {
      meaning.textContent = document.getElementById(word.getAttribute("aria-describedby")).textContent;
      meaning.hidden = false;
      const at = word.getBoundingClientRect();
      const below = at.bottom + 6 + meaning.offsetHeight <= window.innerHeight;
      meaning.style.top = (below ? at.bottom + 6 : Math.max(4, at.top - 6 - meaning.offsetHeight)) + "px";
      meaning.style.left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - meaning.offsetWidth - 8)) + "px";
    };
    const close = () => (meaning.hidden = true);
    word.addEventListener("pointerenter", open);
    word.addEventListener("focus", open);
    word.addEventListener("pointerleave", close);
    word.addEventListener("blur", close);
    word.addEventListener("keydown", (pressed) => pressed.key === "Escape" && close());
  }
  if (meaning) window.addEventListener("scroll", () => (meaning.hidden = true), true);

  // A command is copied by its button; where the browser gives no clipboard, by a selection.
  for (const button of document.querySelectorAll(".copy")) {
    const command = button.parentElement.querySelector("code").textContent;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
      } catch {
        const place = document.body.appendChild(document.createElement("textarea"));
        place.value = command;
        place.select();
        document.execCommand("copy");
        place.remove();
      }
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }

  // What is wider than its box says so; the section in sight is marked among the contents.
  function markWide() {
    for (const box of document.querySelectorAll(".scroll:not(nav *)")) {
      const more = box.scrollWidth > box.clientWidth + 2;
      box.classList.toggle("more", more);
      const hint = box.previousElementSibling;
      if (more && !(hint && hint.className === "hint")) {
        const made = document.createElement("p");
        made.className = "hint";
        made.textContent = "Scrolls sideways →";
        box.before(made);
      } else if (!more && hint && hint.className === "hint") hint.remove();
    }
  }
  const links = [...document.querySelectorAll("nav a")];
  function markSection() {
    const heads = links.map((link) => document.getElementById(link.hash.slice(1)));
    const passed = heads.filter((head) => head && head.getBoundingClientRect().top < 120).length;
    links.forEach((link, k) => (k === passed - 1 ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  }
  window.addEventListener("scroll", markSection, { passive: true });
  for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", markWide);

  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) draw();
    width = window.innerWidth;
    markWide();
  });
  draw();
  markWide();
  markSection();
  dark.addEventListener("change", draw);
})();
