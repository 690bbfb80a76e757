// The live view. Whatever peers call themselves reaches the page as text nodes only.
"use strict";

const $ = (id) => document.getElementById(id);
const GOOD = new Set(["ESTABLISHED"]);
const BAD = new Set(["CLOSED", "RETRY"]);
const POINTS = 60;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (value) => (value < 100000 ? number : compact).format(value);
const lines = { received: [], sent: [] };
const identities = new Map();
let source = null;
let vni = /^#vnet\d+$/.test(location.hash) ? location.hash.slice(5) : "";
let query = "";

function cell(row, text, ...classes) {
  const td = row.insertCell();
  td.textContent = text;
  if (classes.length) td.classList.add(...classes);
  return td;
}

function note(element, text, error = false) {
  element.hidden = !text;
  element.textContent = text;
  element.classList.toggle("error", error);
}

function fill(table, items, draw, empty) {
  const body = document.createElement("tbody");
  for (const item of items) draw(body.insertRow(), item);
  if (!items.length) {
    const td = cell(body.insertRow(), empty, "empty");
    td.colSpan = table.tHead.rows[0].cells.length;
  }
  table.tBodies[0].replaceWith(body);
}

function duration(seconds) {
  if (seconds < 1) return "–";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function drawPeer(row, peer) {
  const badge = document.createElement("span");
  badge.textContent = peer.state.toLowerCase().replaceAll("_", " ");
  badge.className = "badge " + (GOOD.has(peer.state) ? "good" : BAD.has(peer.state) ? "bad" : "warn");
  row.insertCell().append(badge);
  cell(row, peer.name, "code");
  cell(row, peer.identity + (peer.proven ? " ✓" : ""), "long").title = peer.proven ? "proven by its certificate" : "";
  cell(row, duration(peer.age), "number");
  cell(row, number.format(peer.routes), "number");
  cell(row, number.format(peer.stale), "number");
  cell(row, number.format(peer.waiting), "number");
  const more = peer.subscription_count - peer.subscriptions.length;
  cell(row, peer.subscriptions.join(", ") + (more > 0 ? ` and ${number.format(more)} more` : ""), "long");
  cell(row, peer.state === "HELD" ? "" : (peer.revision ? `revision ${peer.revision}` : "original") + (peer.mesh ? ", mesh" : ""));
  const refused = Object.entries(peer.refused).map(([reason, count]) => `${number.format(count)} × ${reason}`);
  const remarks = [peer.reason, ...refused.map((text) => "refused " + text), peer.rule && `rule ${peer.rule}`];
  cell(row, remarks.filter(Boolean).join("; "), "long");
}

function drawRoute(row, route) {
  cell(row, route.vni, "number");
  cell(row, route.destination, "code");
  cell(row, route.target_vni ? `${route.address} (VNI: ${route.target_vni})` : route.address, "code");
  const badge = document.createElement("span");
  badge.className = "badge";
  badge.textContent = route.type;
  row.insertCell().append(badge);
  cell(row, route.ports ? `${route.ports[0]} to ${route.ports[1]}` : "", "number");
  const more = route.source_count - route.sources.length;
  const names = route.sources.map((name) => (identities.get(name) ? `${identities.get(name)} (${name})` : name));
  cell(row, names.join(", ") + (more > 0 ? ` and ${more} more` : ""), "long");
}

function drawLine(name, value) {
  const values = lines[name];
  values.push(value);
  if (values.length > POINTS) values.shift();
  const top = Math.max(1, ...values);
  const step = 120 / (POINTS - 1);
  const first = POINTS - values.length;
  const points = values.map((v, i) => `${((first + i) * step).toFixed(1)},${(26 - (v / top) * 22).toFixed(1)}`);
  $(`${name}-line`).firstElementChild.setAttribute("points", points.join(" "));
  $(name).textContent = short(value);
}

function drawVnis(state) {
  const known = new Set(state.vnis.map((item) => String(item.vni)));
  if (vni && !known.has(vni)) known.add(vni);
  const select = $("vni");
  if ([...select.options].slice(1).map((o) => o.value).join() !== [...known].join()) {
    select.replaceChildren(select.options[0], ...[...known].map((value) => new Option(`VNI ${value}`, value)));
  }
  select.value = vni;
  $("vnis").replaceChildren(
    ...state.vnis.map((item) => {
      const entry = document.createElement("li");
      const link = document.createElement("a");
      link.href = `#vnet${item.vni}`;
      if (String(item.vni) === vni) link.setAttribute("aria-current", "true");
      const name = document.createElement("b");
      name.textContent = item.vni;
      const size = document.createElement("span");
      const plural = (count, word) => `${short(count)} ${word}${count === 1 ? "" : "s"}`;
      size.textContent = `${plural(item.destinations, "prefix").replace(/prefixs$/, "prefixes")}, ${plural(item.subscribers, "subscriber")}`;
      link.append(name, size);
      entry.append(link);
      return entry;
    }),
  );
  note($("vnis-note"), state.vni_count > state.vnis.length ? `The first ${state.vnis.length} of ${number.format(state.vni_count)}.` : state.vnis.length ? "" : "None yet.");
}

function drawSummary(state) {
  $("role").textContent = state.role;
  $("version").textContent = `version ${state.version}, ${new Date().toLocaleString()}`;
  $("live").dataset.state = state.healthy ? "on" : "ill";
  $("live").textContent = state.healthy ? "live" : "no session";
  $("established").textContent = `${number.format(state.established)} of ${number.format(state.peer_count)}`;
  $("peers-label").textContent = state.role === "client" ? "servers established" : "peers established";
  $("peers-title").textContent = state.role === "client" ? "Servers" : "Peers";
  $("vni-count").textContent = number.format(state.vni_count);
  $("route-count").textContent = short(state.routes);
  const refused = Object.values(state.refused).reduce((sum, count) => sum + count, 0);
  $("refused").textContent = short(refused);
  $("refused").parentElement.classList.toggle("alarm", refused > 0);
  drawLine("received", state.rates.received);
  drawLine("sent", state.rates.sent);
  identities.clear();
  for (const peer of state.peers) identities.set(peer.name, peer.identity);
  drawVnis(state);
  fill($("peers"), state.peers, drawPeer, "Nobody is connected.");
  note($("peers-note"), state.peer_count > state.peers.length ? `The first ${state.peers.length} of ${number.format(state.peer_count)}; all are in peers.json.` : "");
}

function drawRoutes(state) {
  fill($("routes"), state.rows, drawRoute, state.error ? "" : "No route.");
  const cut = state.complete ? "" : `The first ${state.rows.length}. Choose a network or search to see others.`;
  note($("routes-note"), state.error || cut, Boolean(state.error));
}

function connect() {
  if (source) source.close();
  const parameters = new URLSearchParams();
  if (vni) parameters.set("vni", vni);
  if (query) parameters.set("q", query);
  source = new EventSource(`/events?${parameters}`);
  source.addEventListener("summary", (event) => drawSummary(JSON.parse(event.data)));
  source.addEventListener("routes", (event) => drawRoutes(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    $("live").dataset.state = "off";
    $("live").textContent = "disconnected";
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  });
}

function choose(value) {
  vni = value;
  history.replaceState(null, "", vni ? `#vnet${vni}` : "#");
  connect();
}

let typing = 0;
$("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    query = $("query").value.trim();
    connect();
  }, 250);
});
$("search").addEventListener("submit", (event) => event.preventDefault());
$("vni").addEventListener("change", () => choose($("vni").value));
addEventListener("hashchange", () => choose(/^#vnet\d+$/.test(location.hash) ? location.hash.slice(5) : ""));
connect();
