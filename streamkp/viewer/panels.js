// Who is there and what plugins say of them, and what has happened.

import { personColour } from "./colours.js";
import { extras } from "./signals.js";

const MOST_EVENTS = 100;
const MOST_EXTRAS = 12; // of one person
const MOST_TEXT = 160; // characters of one event

/** An element with a class and text; text from the wire is only ever set as text. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  return element;
}

export function showPeople(list, persons) {
  list.replaceChildren(
    ...[...persons].sort((a, b) => a.track - b.track).map((person) => {
      const item = make("li");
      const head = make("div", "who");
      const dot = make("span", "dot");
      dot.style.background = personColour(person.track);
      head.append(dot, make("b", "", `${person.track}`), make("span", "quiet", `${person.state}, ${(person.score * 100).toFixed(0)} %`));
      item.append(head);
      const reps = person.rep_counter;
      if (reps && typeof reps.count === "number") {
        const count = make("div", "reps");
        count.append(make("output", "", `${reps.count}`), make("span", "quiet", exerciseOf(reps)));
        item.append(count);
      }
      const found = [...extras(person)].filter(([path]) => !hidden(path)).slice(0, MOST_EXTRAS);
      if (found.length) {
        const table = make("dl", "extras");
        for (const [path, value] of found) {
          const name = make("dt", "", path);
          name.title = path;
          table.append(name, make("dd", "", words(value)));
        }
        item.append(table);
      }
      return item;
    }),
  );
}

/** What would only fill the panel: bone rotations, and what is shown as repetitions already. */
const hidden = (path) => /^(kinematics|rep_counter\.(count|exercise|provisional))\b/.test(path);

const exerciseOf = (reps) => (reps.exercise ? `${reps.exercise}${reps.provisional ? "?" : ""}` : "waiting for an exercise");

function words(value) {
  if (typeof value === "number") return Number.isInteger(value) ? `${value}` : value.toFixed(2);
  return `${value}`.slice(0, MOST_TEXT);
}

export class Events {
  constructor(list) {
    this.list = list;
    this.count = 0;
  }

  add(stream, events, several) {
    for (const event of events) {
      this.count += 1;
      const { type = "event", ...rest } = event;
      const item = make("li");
      item.append(make("time", "", new Date().toLocaleTimeString()), make("b", "", `${type}`.slice(0, MOST_TEXT)));
      if (several) item.append(make("span", "quiet", stream));
      const text = Object.entries(rest)
        .filter(([key, value]) => value !== null && typeof value !== "object" && !/(^|_)(pts|at|since)$/.test(key))
        .map(([key, value]) => `${key} ${words(value)}`)
        .join(" · ");
      item.append(make("span", "text", text.slice(0, MOST_TEXT)));
      this.list.prepend(item);
    }
    while (this.list.children.length > MOST_EVENTS) this.list.lastChild.remove();
  }

  clear() {
    this.count = 0;
    this.list.replaceChildren();
  }
}
