// The page of a graph: which boxes are open, the search, and the details of a node.
// Graphviz (viz-js) lays out and draws; svg-pan-zoom moves and zooms.
"use strict";

const graph = JSON.parse(document.getElementById("graph").textContent);
const byId = (id) => document.getElementById(id);

// The most nodes that are laid out at once: Graphviz takes seconds for more.
const MOST = 1000;

// A closed box or a leaf with more neighbours has no edges, as an optimizer that is linked with every
// layer: they would hide the network, and take Graphviz minutes.
const HUB = 16;

// --- what is shown -------------------------------------------------------------------------------

const open = new Set(graph.open);
let viz = null;
let pan = null;
let chosen = null;
let drawnOpen = null;

/** Return the outermost closed box around a node, or the node itself. */
function shownAs(number) {
  for (const group of graph.nodes[number].path) {
    if (!open.has(group)) return "g" + group;
  }
  return "n" + number;
}

/** Return how many nodes and closed boxes are shown if these boxes are open. */
function countShown() {
  return new Set(graph.nodes.map((_, number) => shownAs(number))).size;
}

function nodeLabel(node) {
  const lines = [node.label, ...node.specs.slice(0, 2)];
  if (node.specs.length > 2) lines.push("...");
  if (node.share !== undefined) lines.push((100 * node.share).toFixed(1) + "% of the time");
  return lines.join("\n");
}

function boxLabel(group) {
  const lines = [group.name, group.count + " nodes"];
  if (group.share) lines.push((100 * group.share).toFixed(1) + "% of the time");
  return lines.join("\n");
}

/** Return a colour from white to red for a share of the time. */
function heat(share) {
  const strength = Math.min(1, Math.sqrt(share));
  return `0.02 ${(0.75 * strength).toFixed(3)} 1.0`;
}

const COLOURS = { leaf: "#e8e8e8", variable: "#d5ead8", forward: "#dbe7f6", gradient: "#f8e3cc",
  loop: "#e6dcf5" };

/** Return the visible part of the graph in the form of viz-js: Graphviz's as JSON. */
function visible() {
  const root = { graphAttributes: {}, nodes: [], subgraphs: [] };
  const clusters = new Map();

  function cluster(path) {
    let inside = root;
    for (const number of path) {
      if (!clusters.has(number)) {
        const group = graph.groups[number];
        const made = { name: "cluster_" + number, nodes: [], subgraphs: [], graphAttributes: {
          id: "c" + number, label: group.name + "  ⊟", style: "rounded", color: "#8899bb",
          fontcolor: "#335", labeljust: "l", fontsize: 12, fontname: "sans-serif" } };
        clusters.set(number, made);
        inside.subgraphs.push(made);
      }
      inside = clusters.get(number);
    }
    return inside;
  }

  const edges = new Map();
  for (const [tail, head, spec, dashed] of graph.edges) {
    const [a, b] = [shownAs(tail), shownAs(head)];
    if (a === b) continue;
    const [there, back] = [a + " " + b, b + " " + a];
    const edge = edges.get(there) || edges.get(back) ||
      { tail: a, head: b, count: 0, spec, dashed, both: false };
    if (edge.tail !== a) edge.both = true;
    edge.count += 1;
    if (!edges.has(back)) edges.set(there, edge);
  }
  const neighbours = new Map();
  for (const { tail, head } of edges.values()) {
    for (const end of [tail, head]) neighbours.set(end, (neighbours.get(end) || 0) + 1);
  }
  const isHub = (name) => neighbours.get(name) > HUB &&
    (name[0] === "g" || graph.nodes[Number(name.slice(1))].kind === "leaf");

  const done = new Set();
  graph.nodes.forEach((node, number) => {
    const name = shownAs(number);
    if (done.has(name)) return;
    done.add(name);
    const linked = isHub(name) ? `\nlinked with ${neighbours.get(name)} others` : "";
    if (name[0] === "g") {
      const group = graph.groups[Number(name.slice(1))];
      const at = node.path.indexOf(Number(name.slice(1)));
      cluster(node.path.slice(0, at)).nodes.push({ name, attributes: { id: name,
        label: boxLabel(group) + linked, shape: "box3d", style: "filled",
        fillcolor: graph.timed ? heat(group.share || 0)
          : group.gradient ? COLOURS.gradient : COLOURS.forward,
        tooltip: group.name } });
    } else {
      const leaf = node.kind === "leaf" || node.kind === "variable";
      cluster(node.path).nodes.push({ name, attributes: { id: name, label: nodeLabel(node) + linked,
        shape: node.kind === "variable" ? "cylinder" : leaf ? "ellipse" : "box",
        style: leaf ? "filled" : "filled,rounded",
        fillcolor: graph.timed && !leaf ? heat(node.share || 0) : COLOURS[node.kind],
        tooltip: node.label } });
    }
  });
  return {
    directed: true,
    graphAttributes: { rankdir: "TB", ranksep: 0.35, nodesep: 0.25, fontname: "sans-serif",
      tooltip: " " },
    nodeAttributes: { fontname: "sans-serif", fontsize: 11, margin: "0.14,0.05", color: "#667788" },
    edgeAttributes: { color: "#667788", arrowsize: 0.6, fontname: "sans-serif", fontsize: 9 },
    nodes: root.nodes,
    subgraphs: root.subgraphs,
    edges: [...edges.values()].filter((edge) => !isHub(edge.tail) && !isHub(edge.head))
      .map((edge) => ({ tail: edge.tail, head: edge.head, attributes: {
        ...(edge.dashed ? { style: "dashed" } : {}), ...(edge.both ? { dir: "both" } : {}),
        tooltip: edge.spec,
        ...(edge.count > 1 ? { penwidth: 1.8, label: "×" + edge.count } : {}) } })),
  };
}

// --- drawing -------------------------------------------------------------------------------------

/** Lay the graph out again, and keep the zoom; then call `after`. */
function draw(after) {
  byId("busy").hidden = false;
  setTimeout(() => {
    const started = performance.now();
    let svg = null;
    try {
      svg = viz.renderSVGElement(visible(), { engine: "dot" });
    } catch (error) {
      recover(String(error));
      return;
    }
    drawnOpen = [...open];
    if (pan !== null) pan.destroy();
    byId("picture").replaceChildren(svg);
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    pan = svgPanZoom(svg, { zoomEnabled: true, minZoom: 0.05, maxZoom: 60,
      zoomScaleSensitivity: 0.3, dblClickZoomEnabled: false, controlIconsEnabled: false });
    listen(svg);
    mark();
    byId("busy").hidden = true;
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    document.body.dataset.milliseconds = String(Math.round(performance.now() - started));
    if (after) after();
  }, 0);
}

/** After a failure of Graphviz, which leaves it unusable: start it again, with what was drawn. */
function recover(problem) {
  open.clear();
  if (drawnOpen !== null) drawnOpen.forEach((group) => open.add(group));
  drawnOpen = null;
  say("Graphviz cannot lay this out: " + problem.slice(0, 60));
  byId("busy").hidden = true;
  document.body.dataset.failed = String(Number(document.body.dataset.failed || 0) + 1);
  Viz.instance().then((made) => { viz = made; });
}

/** Have the nodes and boxes of a picture answer to clicks, but not at the end of a drag. */
function listen(svg) {
  let begin = null;
  svg.addEventListener("mousedown", (event) => { begin = [event.clientX, event.clientY]; });
  svg.addEventListener("click", (event) => {
    const moved = begin && Math.hypot(event.clientX - begin[0], event.clientY - begin[1]) > 4;
    const item = event.target.closest(".node, .cluster");
    if (moved || item === null) return;
    if (item.id[0] === "g") toggle(Number(item.id.slice(1)));
    else if (item.id[0] === "c") toggle(Number(item.id.slice(1)));
    else choose(Number(item.id.slice(1)));
  });
}

function toggle(group) {
  if (open.has(group)) {
    open.delete(group);
    draw();
    return;
  }
  open.add(group);
  if (countShown() > MOST) {
    open.delete(group);
    say(`more than ${MOST} nodes would be shown: close other boxes first`);
    return;
  }
  draw(() => center("c" + group));
}

function say(text) {
  byId("found").textContent = text;
}

/** Zoom until a node can be read, or a box fills the picture, and move it into the middle. */
function center(id) {
  const frame = byId("picture").getBoundingClientRect();
  const boxOf = () => byId("picture").querySelector("#" + id)?.getBoundingClientRect();
  const box = boxOf();
  if (!box) return;
  if (id[0] === "c") {
    pan.zoomBy(0.8 * Math.min(frame.width / box.width, frame.height / box.height));
  } else if (box.height < 30) {
    pan.zoomBy(40 / box.height);
  }
  // svg-pan-zoom moves the picture with the next frame.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const moved = boxOf();
    if (moved) {
      pan.panBy({ x: frame.x + frame.width / 2 - moved.x - moved.width / 2,
        y: frame.y + frame.height / 2 - moved.y - moved.height / 2 });
    }
  }));
}

// --- details and search --------------------------------------------------------------------------

function mark() {
  for (const item of document.querySelectorAll(".node.chosen, .node.hit")) {
    item.classList.remove("chosen", "hit");
  }
  for (const number of hits) byId(shownAs(number))?.classList.add("hit");
  if (chosen !== null) byId(shownAs(chosen))?.classList.add("chosen");
}

/** Open the boxes around a node, and show it with its details. */
function show(number) {
  const path = graph.nodes[number].path;
  const closed = path.filter((group) => !open.has(group));
  closed.forEach((group) => open.add(group));
  if (countShown() > MOST) {  // these boxes alone
    open.clear();
    path.forEach((group) => open.add(group));
  }
  choose(number);
  if (closed.length) draw(() => center("n" + number));
  else center("n" + number);
}

function choose(number) {
  chosen = number;
  mark();
  const node = graph.nodes[number];
  const panel = byId("details");
  panel.replaceChildren();
  const head = document.createElement("h2");
  head.textContent = node.name;
  const list = document.createElement("dl");
  panel.append(head, list);
  const add = (term, content) => {
    if (content === undefined || content === "" || content === null) return;
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = term;
    if (content instanceof Node) dd.append(content); else dd.textContent = content;
    list.append(dt, dd);
  };
  add("operator", node.operator);
  add("result", node.specs.join("\n"));
  add("attributes", Object.entries(node.attributes).map(([k, v]) => `${k} = ${v}`).join("\n"));
  add("made at", node.origin);
  add("layer", node.scope);
  add("stands for", { gradient: "a gradient", variable: "a variable" }[node.kind]);
  add("work", node.flops === undefined ? "" : node.flops.toLocaleString("en") +
    " floating-point operations, " + node.bytes.toLocaleString("en") + " bytes");
  add("time", node.seconds === undefined ? "" : (1e6 * node.seconds).toPrecision(4) +
    " us a call, " + (100 * node.share).toFixed(1) + "%");
  add("computed in", node.part);
  add("reads", links(graph.edges.filter((e) => e[1] === number).map((e) => e[0])));
  add("read by", links(graph.edges.filter((e) => e[0] === number).map((e) => e[1])));
}

function links(numbers) {
  if (!numbers.length) return null;
  const all = document.createElement("span");
  for (const number of new Set(numbers)) {
    const link = document.createElement("a");
    link.textContent = graph.nodes[number].name;
    link.addEventListener("click", () => show(number));
    all.append(link, " ");
  }
  return all;
}

let hits = [];
let current = -1;

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = graph.nodes.map((n) => `${n.name} ${n.operator} ${n.origin} ${n.scope} ${n.specs}`);
  hits = words.length === 0 ? [] : texts.flatMap((each, number) =>
    words.every((word) => each.toLowerCase().includes(word)) ? [number] : []);
  current = -1;
  say(words.length ? `${hits.length} found` : "");
  const list = byId("hits");
  list.hidden = hits.length === 0;
  list.replaceChildren(...hits.slice(0, 50).map((number, position) => {
    const item = document.createElement("li");
    const node = graph.nodes[number];
    item.textContent = `${node.name}  ${node.specs[0] || ""}  ${node.scope}`;
    item.addEventListener("mousedown", () => { current = position; list.hidden = true; show(number); });
    return item;
  }));
  mark();
}

byId("search").addEventListener("input", (event) => search(event.target.value));
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") byId("hits").hidden = true;
  if (event.key !== "Enter" || !hits.length) return;
  current = (current + (event.shiftKey ? hits.length - 1 : 1)) % hits.length;
  byId("hits").hidden = true;
  say(`${current + 1} of ${hits.length}`);
  show(hits[current]);
});
byId("search").addEventListener("blur", () => { byId("hits").hidden = true; });
byId("fit").addEventListener("click", () => { pan.resize(); pan.fit(); pan.center(); });
byId("fold").addEventListener("click", () => { open.clear(); draw(); });
byId("unfold").addEventListener("click", () => {
  // Box by box, the outer ones first, as long as Graphviz is fast.
  let left = 0;
  for (const number of graph.groups.keys()) {
    if (open.has(number)) continue;
    open.add(number);
    if (countShown() > MOST) { open.delete(number); left += 1; }
  }
  say(left ? `${left} boxes stay closed: more than ${MOST} nodes` : "");
  draw();
});
window.addEventListener("resize", () => { if (pan) { pan.resize(); pan.fit(); pan.center(); } });

// A page with few boxes would show nothing: those that hold most are opened, as long as there is
// room.
while (countShown() < 12) {
  const closed = [...graph.groups.keys()].filter((group) => !open.has(group));
  const fits = (group) => {
    open.add(group);
    const count = countShown();
    open.delete(group);
    return count <= 100;
  };
  const next = closed.find((group) => graph.nodes.some((node, number) =>
    shownAs(number) === "g" + group) && fits(group));
  if (next === undefined) break;
  open.add(next);
}

document.querySelector("h1").textContent = graph.title;
Viz.instance().then((made) => { viz = made; draw(); });
