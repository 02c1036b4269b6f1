"use strict";
// Draws the charts from the packed tables, sorts and filters the tables, opens a matrix. Text from data is only ever
// set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const views = {};
  const byId = (id) => document.getElementById(id);

  function make(name, text, attributes = {}) {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // Tables.

  function unpackColumn(column, rows) {
    if (Array.isArray(column)) return column;
    if (column.words) return column.at.map((position) => column.words[position]);
    if (column.cycle) return Array.from({ length: rows }, (_, row) => column.cycle[row % column.cycle.length]);
    const values = [];
    for (let at = 0; at < column.runs.length; at += 2) {
      for (let count = 0; count < column.runs[at + 1]; count += 1) values.push(column.runs[at]);
    }
    return values;
  }

  function unpack(packed) {
    const columns = Object.entries(packed.columns).map(([name, column]) => [
      name,
      unpackColumn(column, packed.rows),
    ]);
    return Array.from({ length: packed.rows }, (_, row) =>
      Object.fromEntries(columns.map(([name, values]) => [name, values[row]])),
    );
  }

  const shown = (value) => (value === null || value === "" ? "–" : String(value).replace(/^-/, "−"));

  // A fact of the opened matrix with as many digits as the table of matrices shows.
  function reading(key, value) {
    if (key === "energy_share") return `${(100 * value).toFixed(1)} %`;
    return shown(typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(3)) : value);
  }

  function tableOf(rows, headings) {
    const table = make("table");
    const head = table.appendChild(make("thead")).appendChild(make("tr"));
    const names = Object.keys(headings);
    const isNumber = names.map((name) => rows.every((row) => row[name] === null || typeof row[name] === "number"));
    names.forEach((name, at) => {
      head.append(make("th", headings[name], { scope: "col", ...(isNumber[at] && { class: "number" }) }));
    });
    const body = table.appendChild(make("tbody"));
    for (const row of rows) {
      const line = body.appendChild(make("tr"));
      names.forEach((name, at) => {
        line.append(make("td", shown(row[name]), isNumber[at] ? { class: "number" } : { dir: "auto" }));
      });
    }
    return table;
  }

  function csv(lines) {
    const quoted = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    };
    return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  function save(name, text, type) {
    const link = make("a", "", { download: name });
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function rowsOfFigure(id) {
    return unpack(data.figures[id].table);
  }

  for (const details of document.querySelectorAll("details[data-table]")) {
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.firstChild) return;
      const id = details.dataset.table;
      const headings = data.figures[id].headings;
      const rows = rowsOfFigure(id);
      place.append(tableOf(rows, rows[0] && "name" in rows[0] ? { name: "Matrix", ...headings } : headings));
    });
  }

  for (const button of document.querySelectorAll("[data-csv-figure]")) {
    button.addEventListener("click", () => {
      const id = button.dataset.csvFigure;
      const rows = rowsOfFigure(id);
      const names = Object.keys(data.figures[id].table.columns);
      save(`${id}.csv`, csv([names, ...rows.map((row) => names.map((name) => row[name]))]), "text/csv");
    });
  }

  for (const button of document.querySelectorAll("[data-svg]")) {
    button.addEventListener("click", async () => {
      save(`${button.dataset.svg}.svg`, await views[button.dataset.svg].toSVG(), "image/svg+xml");
    });
  }

  const valueOf = (cell) => cell.dataset.value ?? (cell.textContent === "–" ? "" : cell.textContent);

  for (const button of document.querySelectorAll("[data-csv]")) {
    button.addEventListener("click", () => {
      const table = byId(button.dataset.csv);
      const lines = [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(valueOf));
      save(`${table.id}.csv`, csv(lines), "text/csv");
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, at) => {
      const button = make("button", header.textContent, { type: "button" });
      header.replaceChildren(button);
      // Chromium repeats a table's header on every page of paper only if it holds no button.
      window.addEventListener("beforeprint", () => header.replaceChildren(button.textContent));
      window.addEventListener("afterprint", () => header.replaceChildren(button));
      button.addEventListener("click", () => {
        const descending = header.classList.contains("number")
          ? header.ariaSort !== "descending"
          : header.ariaSort === "ascending";
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const key = (row) => valueOf(row.cells[at]);
        const compare = header.classList.contains("number")
          ? (a, b) => Number(a) - Number(b)
          : (a, b) => a.localeCompare(b, undefined, { numeric: true });
        const sorted = [...table.tBodies[0].rows].sort((a, b) => {
          const [first, second] = [key(a), key(b)];
          if (first === "" || second === "") return (first === "") - (second === "");
          return descending ? compare(second, first) : compare(first, second);
        });
        table.tBodies[0].append(...sorted);
      });
    });
  }

  // Charts.

  const tip = byId("tip");

  function showTip(_handler, event, _item, value) {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    const list = make("dl");
    for (const [name, text] of Object.entries(value)) list.append(make("dt", name), make("dd", shown(text)));
    tip.replaceChildren(list);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const fits = event.clientX + 14 + box.width < innerWidth;
    tip.style.left = `${Math.max(4, fits ? event.clientX + 14 : event.clientX - 14 - box.width)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 4))}px`;
  }

  const columnsFor = (place) => {
    const { panel, beside } = data.figures[place.dataset.figure];
    return Math.max(1, Math.floor((place.clientWidth - beside) / panel));
  };

  // The specification with every value of some keys, however deep, replaced.
  function replaced(node, changes) {
    if (Array.isArray(node)) return node.map((inner) => replaced(inner, changes));
    if (node === null || typeof node !== "object") return node;
    const pairs = Object.entries(node).filter(([key]) => key !== "datasets");
    const changed = pairs.map(([key, value]) => [key, changes[key]?.(value) ?? replaced(value, changes)]);
    return { ...node, ...Object.fromEntries(changed) };
  }

  function inLines(title, count) {
    const lines = [""];
    for (const word of title.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (lines.at(-1) && longer.length > title.length / count + 3) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines;
  }

  const isTooWide = (place) => {
    const frame = place.getBoundingClientRect();
    return [...place.querySelectorAll(".role-axis-title text")].some((title) => {
      const box = title.getBoundingClientRect();
      return box.right > frame.right + 1 || box.left < frame.left - 1;
    });
  };

  async function draw(place) {
    const id = place.dataset.figure;
    const figure = data.figures[id];
    const spec = { ...figure.spec, datasets: { ...figure.spec.datasets, table: rowsOfFigure(id) } };
    if (figure.panel) {
      spec.columns = columnsFor(place);
      place.dataset.columns = spec.columns;
    }
    // A legend takes one row where it fits; a label longer than the figure is cut, and stands whole in the data table.
    const widths = figure.legend.map((letters) => 6.7 * Math.min(letters, 42) + 34);
    const room = place.clientWidth - 80;
    const isOneRow = widths.reduce((sum, width) => sum + width, 0) <= room;
    const columns = isOneRow ? Math.max(1, widths.length) : Math.max(1, Math.floor(room / Math.max(...widths)));
    const legend = { ...spec.config.legend, columns, labelLimit: Math.min(300, place.clientWidth - 90) };
    spec.config = { ...spec.config, legend };
    const options = { renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip: showTip };
    // Long labels of an axis leave half of the place to the plot.
    const fitted = replaced(spec, { labelLimit: (limit) => Math.min(limit, place.clientWidth / 2) });
    let { view } = await vegaEmbed(place, fitted, options);
    for (let lines = 2; lines <= 4 && isTooWide(place); lines += 1) {
      view.finalize();
      const x = (channel) => typeof channel?.title === "string"
        ? { ...channel, title: inLines(channel.title, lines) } : undefined;
      ({ view } = await vegaEmbed(place, replaced(fitted, { x }), options));
    }
    views[id] = view;
    if (id === "layer-map") {
      view.addEventListener("click", (_event, item) => {
        if (item && item.datum && item.datum.name) open(item.datum.name, true);
      });
    }
  }

  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const place of document.querySelectorAll("[data-columns]")) {
        const columns = columnsFor(place);
        if (String(columns) !== place.dataset.columns) draw(place);
      }
    }, 150);
  });

  // One matrix.

  const matrices = data.matrices ? unpack(data.matrices) : [];
  const labels = {
    layer: "Layer", role: "Role", block: "Block", d_out: "Rows", d_in: "Columns", count: "Intruder dimensions",
    energy_share: "Energy share", ill_conditioned: "Ill-conditioned vectors", method: "Decided by method",
    update_frobenius: "‖ΔW‖ (Frobenius)", update_spectral: "‖ΔW‖ (spectral)", update_relative: "‖ΔW‖ / ‖W0‖",
    update_effective_rank: "Effective rank of ΔW", update_stable_rank: "Stable rank of ΔW",
  };

  function signal(name, value) {
    for (const view of Object.values(views)) {
      if (name in view.getState({ data: () => false, signals: () => true }).signals) view.signal(name, value).run();
    }
  }

  function open(name, scroll) {
    const matrix = matrices.find((row) => row.name === name);
    if (!matrix) return;
    byId("opened").value = name;
    if (scroll) byId("section-matrix").open = true;
    byId("matrix-facts").replaceChildren(
      ...Object.entries(labels)
        .filter(([key]) => matrix[key] !== null && matrix[key] !== undefined)
        .map(([key, label]) => {
          const pair = make("div");
          pair.append(make("dt", label), make("dd", reading(key, matrix[key])));
          return pair;
        }),
    );
    for (const row of document.querySelectorAll("#matrices tbody tr")) {
      row.classList.toggle("opened", row.cells[0].textContent === name);
    }
    signal("matrix", name);
    if (scroll) byId("section-matrix").scrollIntoView({ block: "start" });
  }

  if (byId("opened")) {
    byId("opened").addEventListener("change", (event) => open(event.target.value, false));
    for (const row of document.querySelectorAll("#matrices tbody tr")) {
      const button = make("button", row.cells[0].textContent, { type: "button", title: "Open this matrix" });
      row.cells[0].replaceChildren(button);
      button.addEventListener("click", () => open(button.textContent, true));
    }
    byId("measures")?.addEventListener("change", (event) => signal("measure", event.target.value));
    byId("download-json").addEventListener("click", () => {
      const vectors = data.figures["vector-bounds"] ? rowsOfFigure("vector-bounds") : [];
      const whole = matrices.map((matrix) => ({
        ...matrix,
        vectors: vectors.filter((vector) => vector.name === matrix.name).map(({ name, ...rest }) => rest),
      }));
      save("matrices.json", JSON.stringify(whole, null, 1), "application/json");
    });
    const filter = byId("filter");
    const apply = () => {
      const text = filter.elements.text.value.toLowerCase();
      const role = filter.elements.role.value;
      let visible = 0;
      const kept = new Set(
        matrices
          .filter((row) => row.name.toLowerCase().includes(text))
          .filter((row) => (role === "" || row.role === role) && (!filter.elements.intruders.checked || row.count > 0))
          .map((row) => row.name),
      );
      for (const row of document.querySelectorAll("#matrices tbody tr")) {
        row.hidden = !kept.has(row.cells[0].textContent);
        visible += !row.hidden;
      }
      filter.elements.shown.value = `${visible} of ${matrices.length} shown`;
    };
    filter.addEventListener("input", apply);
    filter.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // Theme: the charts are drawn in currentColor, so they follow without being redrawn.

  const theme = byId("theme");
  const isDark = () =>
    (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) ===
    "dark";
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  // Sections are folded. While the charts are drawn they are open without taking room: see page.css.

  const folds = [...document.querySelectorAll("details.section")];
  const unfold = byId("unfold");
  const allOpen = () => folds.every((fold) => fold.open);
  const unfoldLabel = () => {
    if (unfold) unfold.textContent = allOpen() ? "Close all sections" : "Open all sections";
  };
  unfold?.addEventListener("click", () => {
    const wanted = !allOpen();
    for (const fold of folds) fold.open = wanted;
  });
  for (const fold of folds) fold.addEventListener("toggle", unfoldLabel);

  function openTarget() {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    const fold = target && target.closest("details.section");
    if (!fold) return;
    fold.open = true;
    target.scrollIntoView({ block: "start" });
  }
  window.addEventListener("hashchange", openTarget);
  const caveats = document.querySelectorAll("details.caption, details.warnings");
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...folds, ...caveats].filter((fold) => !fold.open);
    for (const fold of closed) fold.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });

  (async () => {
    const root = document.documentElement;
    root.classList.add("drawing");
    for (const fold of folds) fold.open = true;
    for (const place of document.querySelectorAll("[data-figure]")) await draw(place);
    for (const fold of folds) fold.open = false;
    root.classList.remove("drawing");
    if (data.opened) open(data.opened, false);
    unfoldLabel();
    openTarget();
    root.dataset.drawn = "true";
  })();
})();
