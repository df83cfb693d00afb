// The 3D view: skeletons on a floor, to be turned, moved near and far, and looked at from the front, side and top.

import { fit, painter, personColour, theme } from "./colours.js";

const TURN = 0.25; // radians per second, of its own accord
const EYE = 0.78; // metres above the floor that the view turns about
export const VIEWS = { front: [0, 0.08], side: [Math.PI / 2, 0.08], top: [0, Math.PI / 2] };
const START = { azimuth: 0.5, elevation: 0.22 };
const NEAREST = 1.2;
const FARTHEST = 30;

export class Space {
  constructor(canvas, still) {
    this.canvas = canvas;
    this.turning = !still;
    this.still = still; // no motion that nobody asked for
    this.zoom = 1;
    this.centre = null; // [x, z] that the view is about
    this.reach = 1; // metres from there to the outermost person
    this.hidden = new Set(); // tracks that are drawn otherwise
    this.last = null;
    this.aim = null; // [azimuth, elevation] that the view is moving to
    Object.assign(this, START);
    this.#listen();
  }

  /** Back to how it was at first. */
  reset() {
    Object.assign(this, START, { zoom: 1, centre: null, aim: null, turning: !this.still });
  }

  /** Looks from one of `VIEWS`. */
  look(name) {
    this.turning = false;
    if (this.still) [this.azimuth, this.elevation] = VIEWS[name];
    else this.aim = VIEWS[name];
  }

  turn(azimuth, elevation = 0) {
    this.turning = false;
    this.aim = null;
    this.azimuth += azimuth;
    this.elevation = Math.max(-0.2, Math.min(Math.PI / 2, this.elevation + elevation));
  }

  magnify(factor) {
    this.zoom = Math.max(0.15, Math.min(5, this.zoom * factor));
  }

  #listen() {
    const held = new Map(); // pointers by id
    const gap = () => {
      const [a, b] = [...held.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    const release = (event) => held.delete(event.pointerId);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.turning = false;
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointerup", release);
    this.canvas.addEventListener("pointercancel", release);
    this.canvas.addEventListener("pointermove", (event) => {
      const pointer = held.get(event.pointerId);
      if (!pointer) return;
      const before = held.size === 2 ? gap() : 0;
      const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
      Object.assign(pointer, { x: event.clientX, y: event.clientY });
      if (held.size === 1) this.turn(-dx * 0.008, dy * 0.006);
      else if (held.size === 2 && before > 0) this.magnify(gap() / before);
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.magnify(Math.exp(-event.deltaY * 0.001));
    }, { passive: false });
    this.canvas.addEventListener("dblclick", () => this.reset());
  }

  /** Draws people at their places at time `now` (milliseconds); returns the bones drawn. */
  draw(persons, places, skeletons, mode, now) {
    this.#move(now, [...places.values()]);
    const context = this.canvas.getContext("2d");
    const size = fit(this.canvas, context);
    const eye = (this.eye = this.#eye(size));
    const project = (point) => eye.project(point);
    this.#drawFloor(context, project);
    const bones = [];
    for (const person of persons) {
      const place = places.get(person.track);
      if (place && !this.hidden.has(person.track)) bones.push(...bonesOf(person, place, skeletons, project, mode));
    }
    bones.sort((a, b) => b.depth - a.depth);
    for (const bone of bones) drawBone(context, bone);
    for (const person of persons) {
      const place = places.get(person.track);
      if (place) drawId(context, person, project([place[0], 0, place[2]]));
    }
    return bones.length;
  }

  #move(now, places) {
    const passed = this.last === null ? 0 : Math.min(now - this.last, 100);
    this.last = now;
    if (this.aim) {
      const share = 1 - Math.exp(-passed / 90);
      const turn = Math.atan2(Math.sin(this.aim[0] - this.azimuth), Math.cos(this.aim[0] - this.azimuth));
      this.azimuth += turn * share;
      this.elevation += (this.aim[1] - this.elevation) * share;
      if (Math.abs(turn) + Math.abs(this.aim[1] - this.elevation) < 1e-3) {
        [this.azimuth, this.elevation] = this.aim;
        this.aim = null;
      }
    } else if (this.turning) {
      this.azimuth += (TURN * passed) / 1000;
    }
    if (!places.length) return;
    const middle = [0, 2].map((i) => (Math.min(...places.map((p) => p[i])) + Math.max(...places.map((p) => p[i]))) / 2);
    const reach = Math.max(...places.map((p) => Math.hypot(p[0] - middle[0], p[2] - middle[1])));
    if (this.centre === null) {
      this.centre = middle;
      this.reach = reach;
    }
    const share = 1 - Math.exp(-passed / 700);
    this.centre = this.centre.map((value, i) => value + (middle[i] - value) * share);
    this.reach += (reach - this.reach) * share;
  }

  #eye({ width, height }) {
    const [sin, cos] = [Math.sin(this.azimuth), Math.cos(this.azimuth)];
    const [sinUp, cosUp] = [Math.sin(this.elevation), Math.cos(this.elevation)];
    const focal = Math.min(width, height * 1.1) * 1.35;
    const distance = Math.max(NEAREST, Math.min(FARTHEST, (3.4 + this.reach * 2.1) / this.zoom));
    const [cx, cz] = this.centre ?? [0, 0];
    return {
      focal, distance, width, height,
      target: [cx, -EYE, cz],
      forward: [-sin * cosUp, sinUp, cos * cosUp],
      down: [sin * sinUp, cosUp, -cos * sinUp],
      project([x, y, z]) {
        const [dx, dy, dz] = [x - cx, y + EYE, z - cz];
        const depth = dz * cos - dx * sin;
        const away = depth * cosUp + dy * sinUp + distance;
        const scale = focal / Math.max(away, 0.1);
        return {
          x: width / 2 + (dx * cos + dz * sin) * scale,
          y: height / 2 + (dy * cosUp - depth * sinUp) * scale,
          depth: away,
          scale,
        };
      },
    };
  }

  #drawFloor(context, project) {
    const [cx, cz] = (this.centre ?? [0, 0]).map((value) => Math.round(value * 2) / 2);
    const half = Math.min(12, Math.ceil(this.reach + 1.5));
    context.lineWidth = 1;
    context.strokeStyle = theme("--grid");
    context.beginPath();
    for (let i = -half; i <= half + 1e-6; i += 0.5) {
      for (const [a, b] of [[[i, -half], [i, half]], [[-half, i], [half, i]]]) {
        const [from, to] = [a, b].map(([x, z]) => project([cx + x, 0, cz + z]));
        if (from.depth < 0.2 || to.depth < 0.2) continue;
        context.moveTo(from.x, from.y);
        context.lineTo(to.x, to.y);
      }
    }
    context.stroke();
  }
}

function bonesOf(person, place, skeletons, project, mode) {
  const pose = person.keypoints_3d;
  return [pose, ...(pose.extremities ? [pose.extremities] : [])].flatMap((part) =>
    bonesOfPart(part, person.track, place, skeletons, project, mode),
  );
}

function bonesOfPart({ skeleton, points }, track, place, skeletons, project, mode) {
  const { joints, bones } = skeletons[skeleton] ?? { joints: [], bones: [] };
  const paint = painter(mode, track);
  const at = points.map((point) => project(point.map((value, i) => value + place[i])));
  return bones
    .filter(([a, b]) => at[a] && at[b])
    .map(([a, b]) => ({
      from: at[a],
      to: at[b],
      colour: paint.bone(joints[a], joints[b]),
      ends: [paint.joint(joints[a]), paint.joint(joints[b])],
      depth: (at[a].depth + at[b].depth) / 2,
    }));
}

function drawId(context, person, at) {
  if (at.depth < 0.2) return;
  context.fillStyle = personColour(person.track);
  context.strokeStyle = theme("--panel");
  context.lineWidth = 3;
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.strokeText(`${person.track}`, at.x, at.y + 18);
  context.fillText(`${person.track}`, at.x, at.y + 18);
  context.textAlign = "start";
}

function drawBone(context, { from, to, colour, ends }) {
  if (from.depth < 0.2 || to.depth < 0.2) return;
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
