// The wall: one tile per stream, as large as the space allows.

import { drawOverlay } from "./overlay.js";
import { make } from "./panels.js";

const ASPECT = 16 / 9;
const GAP = 10;
const CAPTION = 30; // pixels below a picture
const WORDS = {
  connecting: "connecting",
  stalled: "no pictures come",
  reconnecting: "trying to reach it again",
  paused: "paused",
  failed: "failed",
  ended: "ended",
};

export class Wall {
  constructor(element, onSelect, onEnlarge) {
    this.element = element;
    this.tiles = new Map();
    this.enlarged = null;
    this.onSelect = onSelect;
    this.onEnlarge = onEnlarge;
    new ResizeObserver(() => this.layOut()).observe(element);
  }

  /** Makes and removes tiles so that there is one for each stream. */
  list(streams) {
    for (const [name, tile] of this.tiles) {
      if (streams.some((stream) => stream.name === name)) continue;
      tile.root.remove();
      this.tiles.delete(name);
    }
    for (const stream of streams) if (!this.tiles.has(stream.name)) this.tiles.set(stream.name, this.#tile(stream));
    if (this.enlarged !== null && !this.tiles.has(this.enlarged)) this.enlarged = null;
    this.element.append(...[...this.tiles.keys()].sort().map((name) => this.tiles.get(name).root));
    this.layOut();
  }

  #tile(stream) {
    const root = make("article", "tile");
    root.tabIndex = 0;
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Video of ${stream.name} with the people's skeletons`);
    const frame = make("div", "frame");
    const note = make("p", "note");
    frame.append(canvas, note);
    const caption = make("div", "caption");
    const badge = make("span", "badge");
    const figures = make("span", "figures");
    const larger = make("button", "larger", "⤢");
    larger.title = "Enlarge, or back to all (Enter)";
    larger.setAttribute("aria-label", `Enlarge ${stream.name}`);
    caption.append(badge, make("b", "name", stream.name), figures, larger);
    root.append(frame, caption);
    root.addEventListener("click", () => this.onSelect(stream.name));
    root.addEventListener("focus", () => this.onSelect(stream.name));
    root.addEventListener("dblclick", () => this.onEnlarge(stream.name));
    larger.addEventListener("click", (event) => {
      event.stopPropagation();
      this.onEnlarge(stream.name);
    });
    new ResizeObserver(() => (stream.stale = true)).observe(canvas);
    return { root, canvas, note, badge, figures, bones: 0 };
  }

  /** As many columns as make the tiles largest. */
  layOut() {
    const count = this.enlarged === null ? this.tiles.size : 1;
    for (const [name, { root }] of this.tiles) root.hidden = this.enlarged !== null && name !== this.enlarged;
    const { clientWidth: width, clientHeight: height } = this.element;
    let [columns, best] = [1, 0];
    for (let n = 1; n <= count; n += 1) {
      const rows = Math.ceil(count / n);
      const wide = (width - GAP * (n - 1)) / n;
      const high = (height - GAP * (rows - 1)) / rows - CAPTION;
      const size = Math.min(wide, high * ASPECT);
      if (size > best) [columns, best] = [n, size];
    }
    const flows = getComputedStyle(this.element).getPropertyValue("--flows").trim() === "1"; // a phone: the page scrolls
    this.element.style.setProperty("--columns", flows ? (count > 1 ? 2 : 1) : columns);
  }

  /** Pixels that each visible stream's picture has: what the server is asked for. */
  widths(streams) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const wanted = {};
    for (const stream of streams) {
      const tile = this.tiles.get(stream.name);
      if (!tile || tile.root.hidden || ["failed", "ended"].includes(stream.state)) continue;
      wanted[stream.name] = Math.max(1, Math.round(tile.canvas.clientWidth * ratio));
    }
    return wanted;
  }

  /** Draws what has changed; returns the bones drawn of the chosen stream. */
  draw(streams, chosen, skeletons, mode) {
    for (const stream of streams) {
      const tile = this.tiles.get(stream.name);
      if (!tile || tile.root.hidden || !stream.stale) continue;
      stream.stale = false;
      const pale = stream.state !== "live";
      if (stream.shown || stream.image) {
        tile.bones = drawOverlay(tile.canvas, stream.shown, stream.image?.bitmap, skeletons, { mode, pale });
      } else {
        tile.canvas.getContext("2d").clearRect(0, 0, tile.canvas.width, tile.canvas.height);
        tile.bones = 0;
      }
    }
    return this.tiles.get(chosen?.name)?.bones ?? 0;
  }

  /** The words and figures around the pictures. */
  describe(streams, chosen, now) {
    for (const stream of streams) {
      const tile = this.tiles.get(stream.name);
      if (!tile) continue;
      const silent = stream.state === "live" && stream.silent(now);
      const state = silent ? "stalled" : stream.state;
      tile.root.dataset.state = state;
      tile.root.classList.toggle("chosen", stream === chosen && streams.length > 1);
      tile.badge.title = state;
      const fine = state === "live" || (state === "connecting" && stream.image);
      const said = [WORDS[state], stream.reason].filter(Boolean).join(": ");
      const picture = stream.picture && `the picture is ${stream.picture}`;
      set(tile.note, fine ? (stream.message ? (picture ?? "") : "waiting for the first frame") : (said || state));
      const figures = [];
      if (tile.canvas.clientWidth > 280) {
        figures.push(`${stream.persons.length} ${stream.persons.length === 1 ? "person" : "people"}`);
      }
      figures.push(`${stream.rate.toFixed(stream.rate < 10 ? 1 : 0)} fps`);
      if (stream.latency !== null) figures.push(stream.latency);
      if (stream.dropped) figures.push(`${stream.dropped} dropped`);
      set(tile.figures, state === "live" ? figures.join(" · ") : state);
    }
  }
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
