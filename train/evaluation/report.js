"use strict";
// Plots follow the page's colours; tables sort; players switch versions at the same instant.
const dark = matchMedia("(prefers-color-scheme: dark)");
const ticks = [0.1, 1, 10, 100, 1000, 10000].flatMap((ten) => [1, 2, 5].map((n) => n * ten));
function draw() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(place.dataset.figure);
    const axis = (title) => ({ title: { text: title }, gridcolor: line, zerolinecolor: line, automargin: true });
    Plotly.react(place, figure.traces, {
      paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: ink }, margin: { t: 36, r: 10 }, modebar: { bgcolor: "transparent", color: ink, activecolor: ink },
      xaxis: { ...axis(figure.x), type: "log", tickmode: "array", tickvals: ticks }, yaxis: axis(figure.y), legend: { orientation: "h", y: -0.25 },
    }, {
      responsive: true, displaylogo: false, modeBarButtonsToAdd: [{
        name: "Save as SVG", icon: Plotly.Icons.disk,
        click: (g) => Plotly.downloadImage(g, { format: "svg", filename: figure.y, width: 900, height: 600 }),
      }],
    });
  }
}
draw();
dark.addEventListener("change", draw);

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => { const text = row.cells[column].textContent.trim(); const n = parseFloat(text); return Number.isNaN(n) ? text : n; };
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    });
    table.tBodies[0].append(...(up ? rows : rows.reverse()));
  }));
}

const shown = JSON.parse(document.getElementById("shown").textContent);
const answers = [];
const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
};
const shuffled = (list) => list.map((item) => [Math.random(), item]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);

function soundPlayer(item) {
  const versions = [item.versions[0], ...shuffled(item.versions.slice(1))];
  let context = null, gains = [], source = [], playing = false, current = 0;
  const names = versions.map((_, i) => (i ? `Version ${i}` : "Original"));
  const buttons = names.map((name, i) => make("button", { type: "button", textContent: name, onclick: () => choose(i) }));
  const sliders = versions.slice(1).map((_, i) => make("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: `Score of version ${i + 1}, 0 to 100` }));
  const play = make("button", { type: "button", textContent: "Play", onclick: toggle });
  async function load() {
    context = new AudioContext();
    const buffers = await Promise.all(versions.map(async (v) => context.decodeAudioData(await (await fetch(v.url)).arrayBuffer())));
    gains = buffers.map(() => { const g = context.createGain(); g.connect(context.destination); return g; });
    source = buffers.map((buffer, i) => { const s = context.createBufferSource(); s.buffer = buffer; s.loop = true; s.connect(gains[i]); s.start(); return s; });
    choose(current);
  }
  async function toggle() {
    if (!context) { await load(); playing = true; }
    else { playing = !playing; await (playing ? context.resume() : context.suspend()); }
    play.textContent = playing ? "Pause" : "Play";
    root.dataset.playing = playing;
  }
  function choose(i) {
    current = i;
    root.dataset.current = i;
    gains.forEach((g, j) => g.gain.setTargetAtTime(j === i ? 1 : 0, context.currentTime, 0.005));
    buttons.forEach((b, j) => b.setAttribute("aria-pressed", j === i));
  }
  function reveal() {
    buttons.forEach((b, i) => { b.textContent = versions[i].name; });
    answers.push({ test: "mushra", clip: item.clip, scores: Object.fromEntries(sliders.map((s, i) => [versions[i + 1].name, Number(s.value)])) });
  }
  const pictures = make("div", { className: "spectrograms" }, ...item.versions.map((v) => make("figure", {},
    make("img", { src: v.spectrogram, alt: `Spectrogram of ${v.name}` }), make("figcaption", { textContent: v.name }))));
  const details = make("details", {}, make("summary", { textContent: "Spectrograms (they tell the names)" }), pictures);
  const root = make("div", { className: "player", tabIndex: 0 }, make("h3", { textContent: item.clip }),
    make("div", { className: "row" }, play, ...buttons),
    ...sliders.map((s, i) => make("div", { className: "row" }, make("span", { textContent: names[i + 1] }), s)),
    abx(versions, (i) => choose(i), item.clip),
    make("div", { className: "row" }, make("button", { type: "button", textContent: "Reveal and keep scores", onclick: reveal })), details);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `Player of ${item.clip}`);
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") return;
    const number = Number(event.key);
    if (number >= 1 && number <= versions.length) choose(number - 1);
    else if (event.key === " " && event.target === root) toggle();
    else if (event.key.toLowerCase() === "r") reveal();
    else return;
    event.preventDefault();
  });
  buttons[0].setAttribute("aria-pressed", true);
  buttons.slice(1).forEach((b) => b.setAttribute("aria-pressed", false));
  root.dataset.current = 0;
  return root;
}

function abx(versions, choose, clip) {
  if (versions.length < 2) return make("span");
  let hidden = Math.random() < 0.5 ? 0 : 1, right = 0, tried = 0;
  const score = make("span", { textContent: "no answers yet" });
  score.setAttribute("aria-live", "polite");
  const guess = (which) => {
    tried += 1; right += which === hidden; hidden = Math.random() < 0.5 ? 0 : 1;
    score.textContent = `${right} of ${tried} right`;
    answers.push({ test: "abx", clip, right, tried });
  };
  const button = (text, work) => make("button", { type: "button", textContent: text, onclick: work });
  return make("div", { className: "row" }, make("span", { textContent: "A/B/X (A original, B version 1):" }),
    button("A", () => choose(0)), button("B", () => choose(1)), button("X", () => choose(hidden)),
    button("X is A", () => guess(0)), button("X is B", () => guess(1)), score);
}

function pictureWipe(item) {
  const left = make("img", { src: item.versions[0].url, alt: `${item.clip}, original` });
  const right = make("img", { alt: "" });
  const frame = make("div", { className: "wipe" }, left, right);
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: `Wipe of ${item.clip}` });
  const cut = () => { right.style.clipPath = `inset(0 0 0 ${slider.value}%)`; };
  const buttons = item.versions.slice(1).map((v, i) => make("button", { type: "button", textContent: v.name, onclick: () => choose(i) }));
  function choose(i) {
    right.src = item.versions[i + 1].url;
    right.alt = `${item.clip}, ${item.versions[i + 1].name}`;
    buttons.forEach((b, j) => b.setAttribute("aria-pressed", j === i));
  }
  slider.addEventListener("input", cut);
  cut();
  if (buttons.length) choose(0);
  return make("div", { className: "player" }, make("h3", { textContent: item.clip }), make("div", { className: "row" }, ...buttons), frame, slider);
}

function videoPair(item) {
  const screen = (label) => Object.assign(make("video", { muted: true, loop: true, playsInline: true, preload: "auto" }), { ariaLabel: label });
  const left = screen(`${item.clip}, original`), right = screen("");
  left.src = item.versions[0].url;
  const caption = make("figcaption");
  const play = make("button", { type: "button", textContent: "Play", onclick: toggle });
  const place = make("input", { type: "range", min: 0, max: 1000, value: 0, ariaLabel: `Place in ${item.clip}` });
  const buttons = item.versions.slice(1).map((v, i) => make("button", { type: "button", textContent: v.name, onclick: () => choose(i) }));
  const root = make("div", { className: "player", tabIndex: 0 }, make("h3", { textContent: item.clip }),
    make("div", { className: "row" }, play, ...buttons),
    make("div", { className: "pair" }, make("figure", {}, left, make("figcaption", { textContent: "original" })), make("figure", {}, right, caption)), place);
  function choose(i) {
    const version = item.versions[i + 1];
    right.src = version.url;
    right.ariaLabel = `${item.clip}, ${version.name}`;
    caption.textContent = version.name;
    right.addEventListener("loadeddata", () => { follow(); if (!left.paused) right.play(); }, { once: true });
    buttons.forEach((b, j) => b.setAttribute("aria-pressed", j === i));
    root.dataset.current = i;
  }
  // The left one leads.
  function follow() { if (Math.abs(right.currentTime - left.currentTime) > 0.04) right.currentTime = left.currentTime; }
  async function toggle() {
    const start = left.paused;
    if (start) { await Promise.all([left.play(), right.play()]); follow(); } else { left.pause(); right.pause(); follow(); }
    play.textContent = start ? "Pause" : "Play";
    root.dataset.playing = start;
  }
  left.addEventListener("timeupdate", () => { place.value = 1000 * left.currentTime / (left.duration || 1); follow(); });
  left.addEventListener("seeked", follow);
  place.addEventListener("input", () => { left.currentTime = place.value / 1000 * (left.duration || 0); });
  root.addEventListener("keydown", (event) => {
    const number = Number(event.key);
    if (number >= 1 && number <= buttons.length) choose(number - 1);
    else if (event.key === " " && event.target === root) toggle();
    else return;
    event.preventDefault();
  });
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `Videos of ${item.clip}`);
  if (buttons.length) choose(0);
  return root;
}

const players = { sound: soundPlayer, picture: pictureWipe, video: videoPair };
for (const item of shown) document.getElementById("players").append(players[item.kind](item));
document.getElementById("export").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([JSON.stringify(answers, null, 1)], { type: "application/json" }));
  make("a", { href: url, download: "answers.json" }).click();
});
document.documentElement.dataset.ready = "true";
