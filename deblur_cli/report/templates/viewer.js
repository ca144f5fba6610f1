"use strict";
(() => {
  const photos = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const viewer = $("viewer"), stage = $("stage"), world = $("world"), handle = $("handle");
  const MOST = 16; // screen pixels per photo pixel
  const state = { index: -1, split: 0.5, scale: 1, x: 0, y: 0, fitted: true, layer: "" };

  const photo = () => photos[state.index];
  // One pixel of the photo for one of the screen, whatever the screen's density.
  const real = () => 1 / window.devicePixelRatio;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function fitScale() {
    return Math.min(stage.clientWidth / photo().width, stage.clientHeight / photo().height, real() * MOST);
  }

  function keepInView() {
    const along = (offset, size, room) =>
      size <= room ? (room - size) / 2 : clamp(offset, room - size, 0);
    state.x = along(state.x, photo().width * state.scale, stage.clientWidth);
    state.y = along(state.y, photo().height * state.scale, stage.clientHeight);
    // Whole screen pixels, so that at 100% none of the photo's pixels is smeared over two.
    const frame = stage.getBoundingClientRect();
    const whole = (place) => Math.round(place / real()) * real();
    state.x = whole(frame.left + state.x) - frame.left;
    state.y = whole(frame.top + state.y) - frame.top;
  }

  function draw() {
    const { width, height } = photo();
    keepInView();
    world.style.width = `${width}px`;
    world.style.height = `${height}px`;
    world.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.scale})`;
    world.classList.toggle("pixels", state.scale >= real() * 0.999);
    const line = state.split * stage.clientWidth;
    const cut = clamp((line - state.x) / state.scale, 0, width);
    $("after").style.clipPath = `inset(0 0 0 ${cut}px)`;
    handle.style.left = `${line}px`;
    handle.setAttribute("aria-valuenow", String(Math.round(state.split * 100)));
    $("zoom").textContent = `${Math.round((state.scale / real()) * 100)}%`;
  }

  function zoomTo(scale, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const wanted = clamp(scale, Math.min(fitScale(), real()), real() * MOST);
    state.x = x - ((x - state.x) * wanted) / state.scale;
    state.y = y - ((y - state.y) * wanted) / state.scale;
    state.scale = wanted;
    state.fitted = false;
    draw();
  }

  function fit() {
    state.scale = fitScale();
    state.fitted = true;
    draw();
  }

  function moveLine(split) {
    state.split = clamp(split, 0, 1);
    draw();
  }

  function show(layer) {
    if (layer && !photo().drawn) return;
    state.layer = state.layer === layer ? "" : layer;
    for (const name of ["mask", "motion"]) {
      const on = state.layer === name;
      const picture = $(`${name}-picture`);
      if (on && state.index >= 0) picture.src = `${photo().place}/${name}.jpg`;
      picture.hidden = !on;
      $(name).setAttribute("aria-pressed", String(on));
    }
    for (const part of [handle, $("tag-before"), $("tag-after")]) part.hidden = state.layer !== "";
  }

  function open(index) {
    if (index < 0 || index >= photos.length) return;
    state.index = index;
    const { place, name, changed, source, facts, notes } = photo();
    $("before").src = `${place}/before.jpg`;
    $("after").src = `${place}/${changed ? "after" : "before"}.jpg`;
    for (const layer of ["mask", "motion"]) $(`${layer}-picture`).removeAttribute("src");
    const layer = state.layer;
    state.layer = "";
    show(layer);
    for (const part of ["mask", "motion", "layers"]) $(part).hidden = !photo().drawn;
    $("name").textContent = name;
    $("name").title = source;
    $("facts").textContent = [facts, ...notes].join("; ");
    $("previous").disabled = index === 0;
    $("next").disabled = index === photos.length - 1;
    if (!viewer.open) viewer.showModal();
    fit();
    handle.focus({ preventScroll: true });
  }

  const pointers = new Map();
  let grip = null; // "line" or "photo"

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    handle.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pointers.size === 1) grip = event.target === handle ? "line" : "photo";
    else grip = "photo";
    stage.classList.toggle("moving", grip === "photo");
  });

  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const frame = stage.getBoundingClientRect();
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const spread = (at) => Math.max(Math.hypot(at.x - other.x, at.y - other.y), 1);
      state.x += (now.x - before.x) / 2;
      state.y += (now.y - before.y) / 2;
      const x = (now.x + other.x) / 2 - frame.left, y = (now.y + other.y) / 2 - frame.top;
      zoomTo((state.scale * spread(now)) / spread(before), x, y);
    } else if (grip === "line") {
      moveLine((now.x - frame.left) / frame.width);
    } else {
      state.x += now.x - before.x;
      state.y += now.y - before.y;
      draw();
    }
    pointers.set(event.pointerId, now);
  });

  for (const type of ["pointerup", "pointercancel"]) {
    stage.addEventListener(type, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) stage.classList.remove("moving");
    });
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    const steps = event.deltaY / (event.deltaMode === 1 ? 3 : 100);
    zoomTo(state.scale * 1.25 ** -clamp(steps, -3, 3), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });

  stage.addEventListener("dblclick", (event) => {
    if (event.target === handle) return;
    const frame = stage.getBoundingClientRect();
    if (state.fitted) zoomTo(real(), event.clientX - frame.left, event.clientY - frame.top);
    else fit();
  });

  const keys = {
    ArrowLeft: () => moveLine(state.split - 0.02),
    ArrowRight: () => moveLine(state.split + 0.02),
    Home: () => moveLine(0),
    End: () => moveLine(1),
    "+": () => zoomTo(state.scale * 1.25),
    "=": () => zoomTo(state.scale * 1.25),
    "-": () => zoomTo(state.scale / 1.25),
    0: fit,
    1: () => zoomTo(real()),
    m: () => show("mask"),
    t: () => show("motion"),
    n: () => open(state.index + 1),
    p: () => open(state.index - 1),
    PageDown: () => open(state.index + 1),
    PageUp: () => open(state.index - 1),
  };
  viewer.addEventListener("keydown", (event) => {
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });

  document.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) open(Number(card.dataset.index));
  });
  $("previous").addEventListener("click", () => open(state.index - 1));
  $("next").addEventListener("click", () => open(state.index + 1));
  $("mask").addEventListener("click", () => show("mask"));
  $("motion").addEventListener("click", () => show("motion"));
  $("fit").addEventListener("click", fit);
  $("full").addEventListener("click", () => zoomTo(real()));
  $("close").addEventListener("click", () => viewer.close());
  new ResizeObserver(() => {
    if (!viewer.open || state.index < 0) return;
    if (state.fitted) fit();
    else draw();
  }).observe(stage);
})();
