// The right panel: 3D skeletons on a floor, turning slowly; drag to turn, wheel to zoom.

import { boneColour, fit, jointColour, personColour } from "./colours.js";

const TURN = 0.25; // radians per second
const APART = 1.1; // metres between people: each pose has its own origin at the pelvis

export class Space {
  constructor(canvas) {
    this.canvas = canvas;
    this.azimuth = 0.5;
    this.elevation = 0.22;
    this.distance = 3.4;
    this.floor = 0.9; // metres below the pelvis, follows the feet
    this.held = false;
    this.last = null;
    canvas.addEventListener("pointerdown", (event) => {
      this.held = true;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", () => (this.held = false));
    canvas.addEventListener("pointercancel", () => (this.held = false));
    canvas.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      this.azimuth -= event.movementX * 0.008;
      this.elevation = Math.max(-0.2, Math.min(1.4, this.elevation + event.movementY * 0.006));
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.distance = Math.max(1.5, Math.min(12, this.distance * Math.exp(event.deltaY * 0.001)));
    }, { passive: false });
  }

  /** Draws the people of a message at time `now` (milliseconds); returns the bones drawn. */
  draw(persons, skeletons, now) {
    if (this.last !== null && !this.held) this.azimuth += (TURN * Math.min(now - this.last, 100)) / 1000;
    this.last = now;
    const context = this.canvas.getContext("2d");
    const size = fit(this.canvas, context);
    const posed = persons.filter((p) => p.keypoints_3d).map(yDown).sort((a, b) => a.box[0] - b.box[0]);
    const lowest = Math.max(...posed.map((p) => Math.max(...p.keypoints_3d.points.map((q) => q[1]))));
    if (Number.isFinite(lowest)) this.floor += (lowest - this.floor) * 0.1;
    const project = this.projection(size, posed.length);
    this.drawFloor(context, project, posed.length);
    const bones = posed.flatMap((person, i) => {
      const shift = (i - (posed.length - 1) / 2) * APART;
      return this.bonesOf(person, shift, skeletons, project);
    });
    bones.sort((a, b) => b.depth - a.depth);
    for (const bone of bones) drawBone(context, bone);
    posed.forEach((person, i) => {
      const shift = (i - (posed.length - 1) / 2) * APART;
      this.drawId(context, person, project([shift, this.floor, 0]));
    });
    return bones.length;
  }

  projection({ width, height }, people) {
    const [sin, cos] = [Math.sin(this.azimuth), Math.cos(this.azimuth)];
    const [sinUp, cosUp] = [Math.sin(this.elevation), Math.cos(this.elevation)];
    const distance = this.distance + Math.max(0, people - 1) * APART * 0.7;
    const focal = Math.min(width, height * 1.1) * 1.35;
    const middle = this.floor - 0.9; // about the pelvis of a standing person
    return ([x, y, z]) => {
      const turned = x * cos + z * sin;
      const depth = z * cos - x * sin;
      const away = depth * cosUp + (y - middle) * sinUp + distance;
      const down = (y - middle) * cosUp - depth * sinUp;
      const scale = focal / Math.max(away, 0.1);
      return { x: width / 2 + turned * scale, y: height / 2 + down * scale, depth: away, scale };
    };
  }

  drawFloor(context, project, people) {
    const half = 1.5 + Math.max(0, people - 1) * APART * 0.5;
    context.lineWidth = 1;
    for (let i = -half; i <= half + 1e-6; i += 0.5) {
      for (const [a, b] of [[[i, -half], [i, half]], [[-half, i], [half, i]]]) {
        const [from, to] = [a, b].map(([x, z]) => project([x, this.floor, z]));
        context.strokeStyle = Math.abs(i) < 1e-6 ? "#35445c" : "#222d3e";
        context.beginPath();
        context.moveTo(from.x, from.y);
        context.lineTo(to.x, to.y);
        context.stroke();
      }
    }
  }

  bonesOf(person, shift, skeletons, project) {
    const { skeleton, points } = person.keypoints_3d;
    const { joints, bones } = skeletons[skeleton] ?? { joints: [], bones: [] };
    const at = points.map(([x, y, z]) => project([x + shift, y, z]));
    return bones.map(([a, b]) => ({
      from: at[a],
      to: at[b],
      colour: boneColour(joints[a], joints[b]),
      ends: [jointColour(joints[a]), jointColour(joints[b])],
      depth: (at[a].depth + at[b].depth) / 2,
    }));
  }

  drawId(context, person, at) {
    context.fillStyle = personColour(person.track);
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillText(`${person.track}`, at.x, at.y + 18);
    context.textAlign = "start";
  }
}

function drawBone(context, { from, to, colour, ends }) {
  const wide = Math.max(2, (from.scale + to.scale) * 0.011);
  context.lineCap = "round";
  for (const [style, width] of [["#0b0f16", wide + 2.5], [colour, wide]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }
  [from, to].forEach((point, i) => {
    context.fillStyle = ends[i];
    context.beginPath();
    context.arc(point.x, point.y, wide * 0.75, 0, 7);
    context.fill();
  });
}

/** The person with y down and z away, also where the poses are in a level world with y up. */
function yDown(person) {
  const pose = person.keypoints_3d;
  if (pose.space !== "world") return person;
  return { ...person, keypoints_3d: { ...pose, points: pose.points.map(([x, y, z]) => [x, -y, -z]) } };
}
