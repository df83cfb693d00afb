// The page: what arrives, what is drawn when, and what the buttons and keys do.

import { Avatar } from "./avatar.js";
import { Camera } from "./camera.js";
import { themeChanged } from "./colours.js";
import { ask, keepOpen } from "./connection.js";
import { decode } from "./msgpack.js";
import { Events, showPeople } from "./panels.js";
import { Placement, inCameraAxes } from "./placement.js";
import { Plot } from "./plot.js";
import { Recorder } from "./recorder.js";
import { Space } from "./space.js";
import { Stream } from "./streams.js";
import { Wall } from "./tiles.js";
import { watchVideo } from "./video.js";

const POLL = 2000; // milliseconds between two looks at the server's figures
const SHOW = 250; // milliseconds between two updates of figures and lists
const PLOT = 66; // milliseconds between two plots
const TURN = 0.12; // radians per key

const element = (id) => document.getElementById(id);
const streams = new Map();
let skeletons = {};
let chosen = null; // the Stream in the 3D view and the plot
let placement = new Placement();
let paused = false;
let mode = "person"; // what colours bones
let lost = 0; // messages that this page was too slow for
let nextPlot = 0;

const stillness = matchMedia("(prefers-reduced-motion: reduce)");
const space = new Space(element("space"), stillness.matches);
const avatar = new Avatar(element("avatar"));
const plot = new Plot(element("plot"), element("signal"));
const events = new Events(element("events"));
const recorder = new Recorder();
const wall = new Wall(element("wall"), choose, enlarge);
const camera = new Camera(showCamera);

// What tests and the curious may look at.
const state = { connection: "connecting", bones2d: 0, bones3d: 0, places: {}, avatarBones: 0, vias: {} };
window.streamkp = {
  get connection() { return state.connection; },
  get streams() { return [...streams.keys()].sort(); },
  get states() { return Object.fromEntries([...streams].map(([name, stream]) => [name, stream.state])); },
  get pictures() { return Object.fromEntries([...streams].map(([name, stream]) => [name, stream.previews])); },
  get stream() { return chosen?.name ?? null; },
  get frames() { return chosen?.frames ?? 0; },
  get rates() { return Object.fromEntries([...streams].map(([name, stream]) => [name, stream.rate])); },
  get persons() { return chosen?.persons ?? []; },
  get lastMessage() { return chosen?.message ?? null; },
  get shown() { return chosen?.image?.seq ?? null; },
  get previews() { return chosen?.previews ?? 0; },
  get dropped() { return chosen?.dropped ?? 0; },
  get lost() { return lost; },
  get bones2d() { return state.bones2d; },
  get bones3d() { return state.bones3d; },
  get places() { return state.places; },
  get azimuth() { return space.azimuth; },
  get elevation() { return space.elevation; },
  get zoom() { return space.zoom; },
  get vias() { return { ...state.vias }; }, // how pictures come: "jpeg" or "webrtc"
  get paused() { return paused; },
  get plotted() { return plot.drawn; },
  get recorded() { return recorder.frames; },
  get events() { return events.count; },
  get camera() { return { state: camera.state, via: camera.via, sent: camera.sent }; },
  get avatarBones() { return state.avatarBones; },
};

// -- what arrives

function streamOf(name) {
  let stream = streams.get(name);
  if (!stream) {
    streams.set(name, (stream = new Stream(name)));
    listStreams();
  }
  return stream;
}

function listStreams() {
  const names = [...streams.keys()].sort();
  element("stream").replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen?.name)));
  element("stream").parentElement.hidden = names.length < 2;
  element("wall-note").hidden = names.length > 0;
  wall.list([...streams.values()]);
  if (!chosen && names.length) choose(names[0]);
}

function onMessage(data) {
  const message = decode(data);
  if (message.type === "lost") {
    lost += message.messages;
  } else if (message.type === "status") {
    streamOf(message.stream).setState(message.state, message.reason, message.picture);
  } else if (message.type === undefined) {
    const stream = streamOf(message.stream);
    if (recorder.active && !recorder.add(message)) record();
    events.add(message.stream, message.events, streams.size > 1);
    if (!paused) stream.take(message, performance.now());
  }
}

const CONNECTION = {
  connecting: "connecting",
  live: "live",
  ended: "stopped",
  lost: "no connection",
  refused: "refused",
};
const BANNERS = {
  ended: "streamkp has stopped. This page goes on when it runs again.",
  lost: "The connection to streamkp is lost; trying again.",
  refused: "This server needs a token: open the page with ?token=... in its address.",
};

function setConnection(connection) {
  if (connection === "lost" && ["ended", "refused"].includes(state.connection)) return; // it has not come back yet
  state.connection = connection;
  element("state").value = CONNECTION[connection];
  element("state").dataset.state = connection;
  say(BANNERS[connection] ?? "", connection);
  if (connection !== "ended" && connection !== "lost") return;
  for (const stream of streams.values()) {
    stream.setState(connection === "ended" ? "ended" : "connecting", null);
    stream.clear();
    stream.history = [];
  }
}

let sayUntil = null;
function say(words, kind = "", seconds = 0) {
  clearTimeout(sayUntil);
  element("banner").textContent = words;
  element("banner").dataset.kind = kind;
  element("banner").hidden = !words;
  if (seconds) sayUntil = setTimeout(() => say(BANNERS[state.connection] ?? "", state.connection), seconds * 1000);
}

/** The states of streams that have never delivered are in the figures alone; streams that are gone leave the list. */
async function poll() {
  const found = await ask("stats");
  if (found === 401) setConnection("refused");
  const known = found?.streams;
  for (const [name, { status }] of Object.entries(known ?? {})) {
    streamOf(name).setState(status.state, status.reason, status.picture);
  }
  if (known && Object.keys(known).length) {
    const gone = [...streams.keys()].filter((name) => !(name in known));
    for (const name of gone) streams.delete(name);
    if (gone.includes(chosen?.name)) chosen = null;
    if (gone.length) listStreams();
  }
  setTimeout(poll, POLL);
}

// -- what is drawn

function drawFrame(now) {
  requestAnimationFrame(drawFrame);
  const all = [...streams.values()];
  state.bones2d = wall.draw(all, chosen, skeletons, mode);
  const message = chosen?.message && !chosen.silent(now) ? chosen.message : null;
  const persons = (message?.persons ?? []).filter((person) => person.keypoints_3d).map(inCameraAxes);
  const places = message ? placement.update({ ...message, persons }, now) : new Map();
  space.hidden = avatar.tracks;
  state.bones3d = space.draw(persons, places, skeletons, mode, now);
  avatar.draw(persons, places, skeletons, space.eye, now);
  state.avatarBones = avatar.bones;
  state.places = Object.fromEntries(places);
  if (now >= nextPlot && !paused) {
    plot.draw(chosen?.history ?? [], skeletons);
    nextPlot = now + PLOT;
  }
}

function showFigures() {
  const now = performance.now();
  wall.describe([...streams.values()], chosen, now);
  element("people").textContent = chosen?.persons.length ?? 0;
  element("fps").textContent = (chosen?.rate ?? 0).toFixed(1);
  element("latency").textContent = chosen?.latency ?? "-";
  element("flat").hidden = !chosen?.withoutSpace;
  const dropped = chosen?.dropped ?? 0;
  element("dropped").textContent = lost ? `${dropped} + ${lost} here` : dropped;
  element("space-of").textContent = streams.size > 1 ? (chosen?.name ?? "") : "";
  element("turning").setAttribute("aria-pressed", `${space.turning}`);
  if (paused) return;
  showPeople(element("persons"), chosen?.persons ?? []);
  plot.offer(chosen?.persons ?? [], skeletons);
}

// -- what people do

function choose(name) {
  if (!streams.has(name) || chosen?.name === name) return;
  chosen = streams.get(name);
  element("stream").value = name;
  placement = new Placement();
  space.centre = null;
  if (wall.enlarged !== null) enlarge(name, true);
}

function enlarge(name, stay = false) {
  wall.enlarged = wall.enlarged === name && !stay ? null : name;
  choose(name);
  wall.layOut();
  for (const stream of streams.values()) stream.stale = true;
  askVideo();
}

function step(by) {
  const names = [...streams.keys()].sort();
  if (names.length) choose(names[(names.indexOf(chosen?.name) + by + names.length) % names.length]);
}

function press(id, pressed) {
  element(id).setAttribute("aria-pressed", `${pressed}`);
}

function pause() {
  paused = !paused;
  press("pause", paused);
  element("pause").textContent = paused ? "Go on" : "Pause";
}

function record() {
  if (recorder.active) {
    const names = recorder.stop();
    say(names.length ? `Saved ${names.join(", ")}` : "Nothing had arrived.", "", 8);
  } else {
    recorder.start();
  }
  press("record", recorder.active);
  element("record").lastChild.textContent = recorder.active ? "Stop and save" : "Record";
}

function reset() {
  space.reset();
  placement = new Placement();
  events.clear();
  lost = 0;
  for (const stream of streams.values()) Object.assign(stream, { dropped: 0, history: [] });
  if (wall.enlarged !== null) enlarge(wall.enlarged);
}

function colours() {
  mode = mode === "person" ? "side" : "person";
  press("colours", mode === "side");
  for (const stream of streams.values()) stream.stale = true;
}

function toggleCamera() {
  if (["off", "failed"].includes(camera.state)) camera.start({ plain: new URLSearchParams(location.search).has("plain") });
  else camera.stop();
}

function showCamera(now, words) {
  press("camera", now === "sending");
  element("camera").disabled = now === "starting";
  element("camera").textContent = now === "sending" ? "Stop my camera" : "Use my camera";
  if (now === "failed") say(words, "failed", 15);
  if (now === "sending" && camera.stream) {
    say("", "");
    if (streams.has(camera.stream)) choose(camera.stream);
  }
}

async function dress(file) {
  try {
    await avatar.load(await file.arrayBuffer());
  } catch (error) {
    say(error.message, "failed", 8);
  }
  showAvatar();
}

function chooseAvatar() {
  if (avatar.active) avatar.clear();
  else element("vrm").click();
  showAvatar();
}

function showAvatar() {
  press("dress", avatar.active);
  element("dress").textContent = avatar.active ? "Stick figure" : "Avatar";
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  themeChanged();
  try {
    localStorage.setItem("streamkp-theme", name);
  } catch {
    // Kept for this visit only.
  }
}

function toggleTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : !matchMedia("(prefers-color-scheme: light)").matches;
  setTheme(dark ? "light" : "dark");
}

function turning() {
  space.turning = !space.turning;
}

const KEYS = {
  " ": pause, Enter: () => chosen && enlarge(chosen.name), r: reset, p: colours, s: record, c: toggleCamera,
  v: chooseAvatar, t: toggleTheme, a: turning, 1: () => space.look("front"), 2: () => space.look("side"),
  3: () => space.look("top"), "+": () => space.magnify(1.15), "=": () => space.magnify(1.15),
  "-": () => space.magnify(1 / 1.15), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  "?": () => element("help").showModal(),
};
const TURNS = { ArrowLeft: [TURN, 0], ArrowRight: [-TURN, 0], ArrowUp: [0, TURN], ArrowDown: [0, -TURN] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  if (event.target.closest("select, input") || (event.target.closest("button") && [" ", "Enter"].includes(event.key))) return;
  const turn = event.target === element("space") && TURNS[event.key];
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!turn && !action) return;
  event.preventDefault();
  if (turn) space.turn(...turn);
  else action();
});

for (const [id, action] of Object.entries({
  pause, record, reset, colours, turning, camera: toggleCamera, theme: toggleTheme, dress: chooseAvatar,
  keys: () => element("help").showModal(),
})) {
  element(id).addEventListener("click", action);
}
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => space.look(button.dataset.view));
}
element("stream").addEventListener("change", (event) => choose(event.target.value));
element("vrm").addEventListener("change", (event) => event.target.files[0] && dress(event.target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) dress(event.dataTransfer.files[0]);
});
matchMedia("(prefers-color-scheme: light)").addEventListener("change", themeChanged);
stillness.addEventListener("change", ({ matches }) => {
  space.still = matches;
  if (matches) space.turning = false;
});
try {
  const kept = localStorage.getItem("streamkp-theme");
  if (["dark", "light"].includes(kept)) setTheme(kept);
} catch {
  // The browser's own choice holds.
}

skeletons = (await ask("skeletons.json")) ?? {};
const settings = await ask("viewer.json");
const askVideo = watchVideo(
  () => (paused ? {} : wall.widths([...streams.values()])),
  (name, bitmap, seq, via) => {
    const stream = streams.get(name);
    state.vias[name] = via;
    if (!stream || paused || ["failed", "ended"].includes(stream.state)) bitmap.close();
    else stream.setImage(bitmap, seq);
  },
  settings?.webrtc,
);
keepOpen("ws", { format: "msgpack" }, onMessage, setConnection);
setInterval(showFigures, SHOW);
requestAnimationFrame(drawFrame);
poll();
if (settings?.avatar) {
  avatar.loadFromServer().catch((error) => say(error.message, "failed", 8)).then(showAvatar);
}
