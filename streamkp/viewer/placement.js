// Where people stand in the 3D view: each pose has its own origin at the pelvis, and nobody may stand in another.

const APART = 0.75; // metres that two people are apart at least
const FOCAL = 1.0; // over the longer side of the image, where the camera is not known: about 53 degrees
const QUICK = 250; // milliseconds in which a place follows sideways
const SLOW = 600; // and in depth, which is measured worse
const FORGET = 1500; // milliseconds after which a track that has gone loses its place
const FLOOR = 800; // milliseconds in which the floor under somebody follows their feet

export class Placement {
  #places = new Map(); // by track: x, z, floor (metres below the pelvis), at

  /** The place of each person: a map from track to [x, y, z], metres to add to their joints; y puts feet on y = 0. */
  update(message, now) {
    for (const person of message.persons) {
      if (!person.keypoints_3d?.points.length) continue;
      const pose = person.keypoints_3d;
      // A level world knows the height of the pelvis, and the rest of its place only where somebody measured it.
      const known3d = pose.root && (pose.root[0] !== 0 || pose.root[2] !== 0);
      const [x, z] = known3d ? [pose.root[0], pose.root[2]] : fromBox(person, message);
      const floor = Math.max(...pose.points.map((point) => point[1]));
      const known = this.#places.get(person.track);
      if (!known) {
        this.#places.set(person.track, { x, z, floor, at: now });
        continue;
      }
      const passed = Math.max(0, now - known.at);
      const follow = (time) => 1 - Math.exp(-passed / time);
      known.x += (x - known.x) * follow(QUICK);
      known.z += (z - known.z) * follow(SLOW);
      known.floor += (floor - known.floor) * follow(floor > known.floor ? QUICK : FLOOR);
      known.at = now;
    }
    for (const [track, { at }] of this.#places) if (now - at > FORGET) this.#places.delete(track);
    return apart(
      message.persons
        .filter((person) => this.#places.has(person.track))
        .map(({ track }) => ({ track, ...this.#places.get(track) })),
    );
  }
}

/** x and z in metres of the camera, from how large somebody looks and where. */
function fromBox({ box, keypoints_3d: { points } }, { width, height }) {
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const scale = Math.max(box[3], 1) / Math.max(high - low, 0.3); // pixels per metre
  const pelvis = box[0] + box[2] / 2 - ((Math.min(...xs) + Math.max(...xs)) / 2) * scale;
  return [(pelvis - width / 2) / scale, (FOCAL * Math.max(width, height)) / scale];
}

/** Pushes people apart who would stand in each other, sideways rather than in depth. */
function apart(people) {
  people.sort((a, b) => a.x - b.x || a.track - b.track);
  for (let round = 0; round < 12; round += 1) {
    let moved = false;
    for (let i = 0; i < people.length; i += 1) {
      for (let j = i + 1; j < people.length; j += 1) {
        const [a, b] = [people[i], people[j]];
        const [dx, dz] = [b.x - a.x, b.z - a.z];
        const distance = Math.hypot(dx, dz);
        if (distance >= APART - 1e-6) continue;
        const push = (APART - distance) / 2;
        const [ux, uz] = distance > 0.05 ? [dx / distance, dz / distance] : [1, 0];
        a.x -= ux * push;
        a.z -= uz * push;
        b.x += ux * push;
        b.z += uz * push;
        moved = true;
      }
    }
    if (!moved) break;
  }
  return new Map(people.map(({ track, x, z, floor }) => [track, [x, -floor, z]]));
}

/** The person with y down and z away from the camera, also where the poses are in a level world with y up. */
export function inCameraAxes(person) {
  const pose = person.keypoints_3d;
  if (pose?.space !== "world") return person;
  const turned = ([x, y, z]) => [x, -y, -z];
  const more = pose.extremities && { ...pose.extremities, points: pose.extremities.points.map(turned) };
  const root = pose.root && turned(pose.root);
  return { ...person, keypoints_3d: { ...pose, points: pose.points.map(turned), root, extremities: more } };
}
