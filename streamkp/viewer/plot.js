// A signal of every person over the last seconds.

import { fit, personColour, theme } from "./colours.js";
import { available, valueOf } from "./signals.js";

const SPAN = 10_000; // milliseconds
const GAP = 1000; // milliseconds over which no line is drawn

export class Plot {
  constructor(canvas, select) {
    this.canvas = canvas;
    this.select = select;
    this.offered = "";
    this.drawn = 0; // values
  }

  /** Offers what these persons have; what is chosen stays. */
  offer(persons, skeletons) {
    const groups = available(persons, skeletons);
    const now = JSON.stringify(groups);
    if (now === this.offered || !Object.keys(groups).length) return;
    this.offered = now;
    const chosen = this.select.value;
    this.select.replaceChildren(
      ...Object.entries(groups).map(([label, keys]) => {
        const group = document.createElement("optgroup");
        group.label = label;
        group.append(...keys.map((key) => new Option(key, key, false, key === chosen)));
        return group;
      }),
    );
    if (chosen && this.select.value !== chosen) {
      this.select.prepend(new Option(chosen, chosen, false, true)); // nobody has it at the moment
      this.select.value = chosen;
    } else if (!chosen) {
      this.select.value = groups.Angles?.[0] ?? Object.values(groups)[0][0];
    }
  }

  draw(history, skeletons) {
    const now = history.at(-1)?.time;
    const context = this.canvas.getContext("2d");
    const { width, height } = fit(this.canvas, context);
    const key = this.select.value;
    const lines = new Map();
    let [low, high] = [Infinity, -Infinity];
    this.drawn = 0;
    for (const { time: at, message } of history) {
      if (now - at > SPAN) continue;
      for (const person of message.persons) {
        const value = key ? valueOf(key, person, skeletons) : null;
        if (value === null || !Number.isFinite(value)) continue;
        if (!lines.has(person.track)) lines.set(person.track, []);
        lines.get(person.track).push([at, value]);
        [low, high] = [Math.min(low, value), Math.max(high, value)];
        this.drawn += 1;
      }
    }
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = theme("--quiet");
    if (!lines.size) {
      context.textAlign = "center";
      context.fillText("nothing to plot", width / 2, height / 2);
      context.textAlign = "start";
      return;
    }
    const slack = Math.max((high - low) * 0.12, Math.abs(high) * 0.002, 1e-3);
    const [bottom, top] = [low - slack, high + slack];
    const left = 44;
    const x = (at) => left + ((at - (now - SPAN)) / SPAN) * (width - left - 6);
    const y = (value) => 6 + (1 - (value - bottom) / (top - bottom)) * (height - 12);
    context.lineWidth = 1;
    context.textBaseline = "middle";
    const marks = y(low) - y(high) > 40 ? [low, (low + high) / 2, high] : y(low) - y(high) > 14 ? [low, high] : [high];
    for (const value of marks) {
      context.strokeStyle = theme("--grid");
      context.beginPath();
      context.moveTo(left, y(value));
      context.lineTo(width - 6, y(value));
      context.stroke();
      context.fillText(shorten(value, high - low), 4, y(value));
    }
    context.textBaseline = "alphabetic";
    context.lineWidth = 1.8;
    context.lineJoin = "round";
    for (const [track, values] of lines) {
      context.strokeStyle = personColour(track);
      context.beginPath();
      let last = -Infinity;
      for (const [at, value] of values) {
        if (at - last > GAP) context.moveTo(x(at), y(value));
        else context.lineTo(x(at), y(value));
        last = at;
      }
      context.stroke();
    }
  }
}

function shorten(value, range) {
  return value.toFixed(range >= 20 ? 0 : range >= 2 ? 1 : 2);
}
