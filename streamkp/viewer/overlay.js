// A stream's picture with boxes, ids, 2D skeletons, and the labels and lines that stages ask for.

import { fit, painter, personColour } from "./colours.js";

const SEEN = 0.3; // joints with a lower score are not drawn
const MOST_LABEL = 200; // characters

/** Draws one message over its image (or on the bare panel where there is none); returns the bones drawn. */
export function drawOverlay(canvas, message, image, skeletons, { mode, pale }) {
  const context = canvas.getContext("2d");
  const { width, height } = fit(canvas, context);
  const [wide, high] = message ? [message.width, message.height] : [image.width, image.height];
  const scale = Math.min(width / wide, height / high);
  const left = (width - wide * scale) / 2;
  const top = (height - high * scale) / 2;
  const at = ([x, y]) => [left + x * scale, top + y * scale];
  context.globalAlpha = pale ? 0.35 : 1;
  if (image) {
    context.drawImage(image, left, top, wide * scale, high * scale);
  } else {
    context.fillStyle = "#0d131c";
    context.fillRect(left, top, wide * scale, high * scale);
  }
  context.globalAlpha = 1;
  if (!message) return 0;
  const small = width < 360;
  let bones = 0;
  for (const person of message.persons) {
    drawBox(context, person, at, scale, small);
    const paint = painter(mode, person.track);
    if (person.keypoints_2d) bones += drawSkeleton(context, person.keypoints_2d, at, skeletons, paint, small);
    for (const part of parts(person)) drawSkeleton(context, part, at, skeletons, paint, true);
  }
  drawAnnotations(context, message, at, width);
  return bones;
}

/** Hands and faces that stages have added to a person, where they are lists of points. */
function parts(person) {
  const hands = Object.values(person.hands ?? {}).map((hand) => ({ skeleton: "hand21", points: hand?.points ?? hand }));
  const face = person.face?.points && { skeleton: "face106", points: person.face.points };
  return [...hands, ...(face ? [face] : [])].filter(({ points }) => Array.isArray(points) && Array.isArray(points[0]));
}

function drawBox(context, person, at, scale, small) {
  const [x, y] = at(person.box);
  const [width, height] = [person.box[2] * scale, person.box[3] * scale];
  context.strokeStyle = context.fillStyle = personColour(person.track);
  context.lineWidth = small ? 1 : 1.5;
  context.setLineDash(person.state === "predicted" ? [5, 5] : []);
  context.beginPath();
  context.roundRect(x, y, width, height, 5);
  context.stroke();
  context.setLineDash([]);
  const size = small ? 9 : 12;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const label = `${person.track}`;
  const wide = context.measureText(label).width + size;
  context.beginPath();
  context.roundRect(x, Math.max(0, y), wide, size * 1.5, 4);
  context.fill();
  context.fillStyle = "#0b0f16";
  context.fillText(label, x + size / 2, Math.max(0, y) + size * 1.1);
}

function drawSkeleton(context, { skeleton, points }, at, skeletons, paint, small) {
  const { joints, bones } = skeletons[skeleton] ?? { joints: [], bones: [] };
  const seen = (i) => points[i] && (points[i].length < 3 || points[i][2] >= SEEN);
  const drawn = bones.filter(([a, b]) => seen(a) && seen(b));
  context.lineCap = "round";
  for (const [colour, wide] of [["#0009", small ? 3 : 5], [null, small ? 1.6 : 3]]) {
    context.lineWidth = wide;
    for (const [a, b] of drawn) {
      context.strokeStyle = colour ?? paint.bone(joints[a], joints[b]);
      context.beginPath();
      context.moveTo(...at(points[a]));
      context.lineTo(...at(points[b]));
      context.stroke();
    }
  }
  points.forEach((point, i) => {
    if (!seen(i)) return;
    context.fillStyle = paint.joint(joints[i]);
    context.beginPath();
    context.arc(...at(point), small ? 1.2 : 2.6, 0, 7);
    context.fill();
  });
  return drawn.length;
}

function drawAnnotations(context, message, at, width) {
  const boxes = new Map(message.persons.map((person) => [person.track, person.box]));
  const raised = new Map(); // how high the labels of each person reach
  const size = Math.max(9, Math.min(16, width / 54));
  context.font = `650 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  for (const each of message.annotations ?? []) {
    if (each.type === "line") {
      for (const [colour, wide] of [["#000a", 5], [each.color ?? "#e8edf5", 2.5]]) {
        context.strokeStyle = colour;
        context.lineWidth = wide;
        context.beginPath();
        each.points.forEach((point, i) => (i ? context.lineTo(...at(point)) : context.moveTo(...at(point))));
        context.stroke();
      }
    } else if (each.type === "label") {
      const lines = each.text.slice(0, MOST_LABEL).split("\n");
      const box = boxes.get(each.track);
      if (!each.at && !box) continue; // of somebody who is not in the picture
      let [x, y] = at(each.at ?? [box[0] + box[2] / 2, box[1]]);
      const step = size * 1.5;
      if (!each.at) {
        y = Math.max(y - 4, step * lines.length) - (raised.get(each.track) ?? 0);
        raised.set(each.track, (raised.get(each.track) ?? 0) + step * lines.length);
      }
      lines.reverse().forEach((line, row) => {
        const wide = context.measureText(line).width + size;
        const low = y - row * step;
        context.fillStyle = "#0b0f16d9";
        context.beginPath();
        context.roundRect(x - wide / 2, low - step + 2, wide, step - 2, 5);
        context.fill();
        context.fillStyle = each.track === null || each.track === undefined ? "#e8edf5" : personColour(each.track);
        context.fillText(line, x, low - size * 0.38);
      });
    }
  }
  context.textAlign = "start";
}
