// The page: what arrives, what is drawn, and the figures at the top.

import { address, connect } from "./connection.js";
import { drawOverlay } from "./overlay.js";
import { watch } from "./preview.js";
import { Space } from "./space.js";

const KEPT = 120; // messages kept to find the one that belongs to an image
const RATE_OVER = 2000; // milliseconds over which frames are counted
const POLL = 2000; // milliseconds between two looks at the list of streams

const element = (id) => document.getElementById(id);
const state = {
  connection: "connecting",
  streams: [],
  stream: null,
  frames: 0, // messages of the chosen stream
  persons: [], // of the newest message
  lastMessage: null,
  dropped: 0, // frames that the engine lost
  lost: 0, // messages that this page was too slow for
  previews: 0, // images shown
  bones2d: 0, // drawn at last
  bones3d: 0,
  azimuth: 0, // of the view on the right, radians
};
window.streamkp = state;

let skeletons = {};
let recent = new Map(); // by seq
let arrivals = [];
let image = null; // {bitmap, seq}
let stale = true; // the left panel must be drawn again
const space = new Space(element("space"));

function onMessage(message) {
  if (message.type === "lost") {
    state.lost += message.messages;
  } else if (message.type === "status") {
    setConnection(message.state);
  } else if (message.type === undefined && message.stream === state.stream) {
    state.frames += 1;
    state.dropped += message.dropped;
    state.persons = message.persons;
    state.lastMessage = message;
    arrivals.push(performance.now());
    recent.set(message.seq, message);
    if (recent.size > KEPT) recent.delete(recent.keys().next().value);
    if (image === null) stale = true;
    else if (image.seq === message.seq) stale = true;
  }
}

function setConnection(connection) {
  state.connection = connection;
  element("state").value = connection;
  element("state").dataset.state = connection;
}

const choose = connect(onMessage, setConnection);

function select(stream) {
  Object.assign(state, { stream, frames: 0, persons: [], lastMessage: null, dropped: 0, lost: 0, previews: 0 });
  recent = new Map();
  arrivals = [];
  image = null;
  stale = true;
  choose(stream);
}

async function pollStreams() {
  try {
    const response = await fetch(address("streams"));
    if (response.status === 401) {
      setConnection("refused");
      element("image-note").textContent = "This server needs a token: open the page with ?token=... in its address.";
    } else if (response.ok) {
      listStreams((await response.json()).streams);
    }
  } catch {
    // The server is away; the connection says so.
  }
  setTimeout(pollStreams, POLL);
}

const FINE = ["connecting", "live", "ended"]; // states of a stream that need no word

async function pollTroubles() {
  try {
    const response = await fetch(address("stats"));
    if (response.ok) showTroubles((await response.json()).streams ?? {});
  } catch {
    // The server is away; the connection says so.
  }
  setTimeout(pollTroubles, POLL);
}

/** The streams that deliver nothing, each with the reason where the server gives one. */
function showTroubles(streams) {
  const lines = Object.entries(streams).filter(([, { status }]) => !FINE.includes(status.state));
  element("troubles").hidden = lines.length === 0;
  element("troubles").replaceChildren(
    ...lines.map(([name, { status: { state: now, reason } }]) => {
      const line = document.createElement("li");
      line.dataset.status = now;
      line.textContent = `${name}: ${now}${reason ? ` - ${reason}` : ""}`;
      return line;
    }),
  );
}

function listStreams(online) {
  const streams = [...new Set([...state.streams.filter((s) => s === state.stream), ...online])].sort();
  if (streams.join("\n") !== state.streams.join("\n")) {
    state.streams = streams;
    element("stream").replaceChildren(...streams.map((name) => new Option(name, name, false, name === state.stream)));
  }
  if (state.stream === null && streams.length) select(streams[0]);
}

function onImage(bitmap, seq) {
  image?.bitmap.close();
  image = bitmap && { bitmap, seq };
  if (bitmap) state.previews += 1;
  stale = true;
}

/** The message to draw on the left: that of the image shown, or the newest. */
function shown() {
  return (image && recent.get(image.seq)) ?? state.lastMessage;
}

function drawFrame(now) {
  const message = shown();
  if (message && stale) {
    state.bones2d = drawOverlay(element("image"), message, image?.bitmap, skeletons);
    element("image-note").textContent = "";
    stale = false;
  }
  state.bones3d = space.draw(state.persons, skeletons, now);
  state.azimuth = space.azimuth;
  requestAnimationFrame(drawFrame);
}

function showFigures() {
  const since = performance.now() - RATE_OVER;
  arrivals = arrivals.filter((at) => at > since);
  const message = state.lastMessage;
  element("people").textContent = state.persons.length;
  const [count, span] = [arrivals.length - 1, arrivals.at(-1) - arrivals[0]];
  element("fps").textContent = count > 0 ? ((count * 1000) / span).toFixed(1) : "0";
  element("latency").textContent = message
    ? `${Math.max(0, (message.published_at - message.captured_at) / 1e6).toFixed(0)} ms`
    : "-";
  element("dropped").textContent = state.lost ? `${state.dropped} + ${state.lost} here` : state.dropped;
}

element("stream").addEventListener("change", (event) => select(event.target.value));
new ResizeObserver(() => (stale = true)).observe(element("image"));
skeletons = await (await fetch(address("skeletons.json"))).json();
setInterval(showFigures, 250);
requestAnimationFrame(drawFrame);
watch(() => state.stream, onImage);
pollStreams();
pollTroubles();
