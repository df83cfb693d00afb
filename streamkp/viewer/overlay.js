// The left panel: the newest image with boxes, ids and 2D skeletons.

import { boneColour, fit, jointColour, personColour } from "./colours.js";

const SEEN = 0.3; // joints with a lower score are not drawn

/** Draws one message over its image (or on the bare panel where there is none); returns the bones drawn. */
export function drawOverlay(canvas, message, image, skeletons) {
  const context = canvas.getContext("2d");
  const { width, height } = fit(canvas, context);
  const scale = Math.min(width / message.width, height / message.height);
  const left = (width - message.width * scale) / 2;
  const top = (height - message.height * scale) / 2;
  const at = ([x, y]) => [left + x * scale, top + y * scale];
  if (image) {
    context.drawImage(image, left, top, message.width * scale, message.height * scale);
  } else {
    context.fillStyle = "#0d131c";
    context.fillRect(left, top, message.width * scale, message.height * scale);
  }
  let bones = 0;
  for (const person of message.persons) {
    drawBox(context, person, at, scale);
    if (person.keypoints_2d) bones += drawSkeleton(context, person.keypoints_2d, at, skeletons);
  }
  return bones;
}

function drawBox(context, person, at, scale) {
  const [x, y] = at(person.box);
  const [width, height] = [person.box[2] * scale, person.box[3] * scale];
  const label = `${person.track}`;
  context.strokeStyle = context.fillStyle = personColour(person.track);
  context.lineWidth = 1.5;
  context.setLineDash(person.state === "predicted" ? [5, 5] : []);
  context.beginPath();
  context.roundRect(x, y, width, height, 5);
  context.stroke();
  context.setLineDash([]);
  context.font = "600 12px system-ui, sans-serif";
  const wide = context.measureText(label).width + 12;
  context.beginPath();
  context.roundRect(x, Math.max(0, y - 20), wide, 18, 4);
  context.fill();
  context.fillStyle = "#0b0f16";
  context.fillText(label, x + 6, Math.max(0, y - 20) + 13);
}

function drawSkeleton(context, { skeleton, points }, at, skeletons) {
  const { joints, bones } = skeletons[skeleton] ?? { joints: [], bones: [] };
  const seen = (i) => points[i][2] >= SEEN;
  const drawn = bones.filter(([a, b]) => seen(a) && seen(b));
  context.lineCap = "round";
  for (const [colour, wide] of [["#0009", 5], [null, 3]]) {
    context.lineWidth = wide;
    for (const [a, b] of drawn) {
      context.strokeStyle = colour ?? boneColour(joints[a], joints[b]);
      context.beginPath();
      context.moveTo(...at(points[a]));
      context.lineTo(...at(points[b]));
      context.stroke();
    }
  }
  points.forEach((point, i) => {
    if (!seen(i)) return;
    context.fillStyle = joints[i] ? jointColour(joints[i]) : "#e8edf5";
    context.beginPath();
    context.arc(...at(point), 2.6, 0, 7);
    context.fill();
  });
  return drawn.length;
}
