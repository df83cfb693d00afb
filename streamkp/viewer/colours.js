// One colour per person, and one per side of the body, as in the rendered video.

const PEOPLE = ["#5ad1a4", "#ffb454", "#7aa8ff", "#ff7eb6", "#c792ea", "#f0e06a", "#4fd6e8", "#ff8a65"];
const SIDES = { left: "#38c8f0", right: "#ff9f45", middle: "#e8edf5" };

export const personColour = (track) => PEOPLE[track % PEOPLE.length];

const side = (joint) => (/(^|_)left(_|$)/.test(joint) ? "left" : /(^|_)right(_|$)/.test(joint) ? "right" : "middle");

/** Colour of a joint, and of the bone between two: a bone belongs to a side if either end does. */
export const jointColour = (joint) => SIDES[side(joint)];
export function boneColour(a, b) {
  const [first, second] = [side(a), side(b)];
  if (first !== "middle" && second !== "middle" && first !== second) return SIDES.middle;
  return SIDES[first === "middle" ? second : first];
}

/** Makes the canvas as sharp as the screen; returns its size in CSS pixels. */
export function fit(canvas, context) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { width, height };
}
