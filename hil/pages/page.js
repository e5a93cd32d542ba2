// Draws every figure of the page; colours named "@x" are the custom property --x of the present theme.
(function () {
  "use strict";
  let figures = {};
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

  // Traces whose names stand in a legend of this width on several lines where they are longer.
  function named(figure, width) {
    const room = Math.max(12, Math.floor((width - 60) / 7));
    const broken = (name) => {
      const lines = [""];
      for (const word of name.split(" ")) {
        const longer = (lines[lines.length - 1] + " " + word).trim();
        if (longer.length <= room) lines[lines.length - 1] = longer;
        else lines.push(word);
      }
      return lines.filter(Boolean).join("<br>");
    };
    const data = figure.data.map((trace) => (trace.name && trace.name.length > room ? { ...trace, name: broken(trace.name) } : trace));
    return { ...figure, data };
  }

  // Height of a legend below a plot of this width: entries stand beside each other as far as there is room.
  function legendHeight(figure, width) {
    if (!figure.layout.showlegend) return 0;
    const names = figure.data.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name.split("<br>"));
    const entry = 48 + 7 * Math.max(0, ...names.flat().map((line) => line.length));
    const lines = Math.max(0, ...names.map((name) => name.length));
    return 14 + (4 + 16 * lines) * Math.ceil(names.length / Math.max(1, Math.floor((width - 40) / entry)));
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
    if (!window.Plotly) return;
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById("plot-" + name);
      if (!place.clientWidth) continue; // its section is closed
      const { data, layout } = fitted(named(figure, place.clientWidth), place.clientWidth);
      Plotly.react(place, coloured(data), themed(coloured(layout)), config);
      for (const drawing of place.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
      place.dataset.drawn = "yes";
    }
  }

  // Text of an element that holds gzip in base64.
  async function unpacked(element) {
    const packed = Uint8Array.from(atob(element.textContent), (sign) => sign.charCodeAt(0));
    const stream = new DecompressionStream("gzip");
    const writer = stream.writable.getWriter();
    writer.write(packed);
    writer.close();
    const reader = stream.readable.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += decoder.decode(part.value, { stream: true });
    return text + decoder.decode();
  }

  // Figures and libraries of the page, ready to be used; where the browser cannot unpack them, a word of it.
  async function unpack() {
    const held = document.getElementById("figures");
    const libraries = [...document.querySelectorAll(".library")];
    if (libraries.length && !("DecompressionStream" in window)) {
      for (const place of document.querySelectorAll(".plot")) place.textContent = "Figures need a browser of 2023 or later.";
      return;
    }
    for (const library of libraries) {
      const script = document.createElement("script");
      script.textContent = await unpacked(library);
      document.head.append(script);
      library.remove();
    }
    if (held) figures = JSON.parse(await unpacked(held));
  }

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
  const folds = [...document.querySelectorAll("details")];
  const opened = (fold) => {
    if ([...fold.querySelectorAll(".plot:not([data-drawn])")].some((place) => place.clientWidth)) draw();
    markWide();
  };
  for (const fold of folds) fold.addEventListener("toggle", () => opened(fold));
  // A link to a section opens it, and paper shows every section.
  const follow = () => {
    const head = location.hash && document.getElementById(location.hash.slice(1));
    const fold = head && head.closest("details");
    if (!fold) return;
    fold.open = true;
    head.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  for (const link of links) link.addEventListener("click", () => setTimeout(follow));
  window.addEventListener("beforeprint", () => {
    for (const fold of folds) fold.open = true;
    draw();
  });

  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) draw();
    width = window.innerWidth;
    markWide();
  });
  unpack().then(() => {
    draw();
    follow();
    markWide();
    markSection();
    dark.addEventListener("change", draw);
    document.documentElement.dataset.ready = "yes";
  });
})();
