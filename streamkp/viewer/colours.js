// One colour per person, and one per side of the body, as in the rendered video.

const PEOPLE = ["#5ad1a4", "#ffb454", "#7aa8ff", "#ff7eb6", "#c792ea", "#f0e06a", "#4fd6e8", "#ff8a65"];
const SIDES = { left: "#38c8f0", right: "#ff9f45", middle: "#e8edf5" };

export const personColour = (track) => PEOPLE[Math.abs(track) % PEOPLE.length];

const side = (joint) => (/(^|_)left(_|$)/.test(joint) ? "left" : /(^|_)right(_|$)/.test(joint) ? "right" : "middle");

/** Colours of one person's bones and joints: of the side of the body, or all of the person. */
export function painter(mode, track) {
  if (mode === "person") {
    const colour = personColour(track);
    return { bone: () => colour, joint: () => colour };
  }
  return {
    bone(a = "", b = "") {
      const [first, second] = [side(a), side(b)];
      if (first !== "middle" && second !== "middle" && first !== second) return SIDES.middle;
      return SIDES[first === "middle" ? second : first];
    },
    joint: (name = "") => SIDES[side(name)],
  };
}

/** A colour of the page's theme, such as `theme("--edge")`. */
const seen = new Map();
export function theme(name) {
  if (!seen.has(name)) seen.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return seen.get(name);
}
export const themeChanged = () => seen.clear();

/** Makes the canvas as sharp as the screen; returns its size in CSS pixels. */
export function fit(canvas, context) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { width, height };
}
