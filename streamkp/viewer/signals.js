// What can be plotted of a person: angles, coordinates of joints, and every number that a plugin adds.

const KNOWN = new Set(["track", "state", "box", "score", "keypoints_2d", "keypoints_3d"]);
const MOST = 200; // numbers of plugins that are offered
const ANGLES = {
  knee: ["hip", "knee", "ankle"],
  hip: ["shoulder", "hip", "knee"],
  elbow: ["shoulder", "elbow", "wrist"],
  shoulder: ["hip", "shoulder", "elbow"],
};

/** Groups of signals that these persons have: `{group: [key, ...]}`; a key is also what is shown. */
export function available(persons, skeletons) {
  const groups = { Angles: new Set(), Plugins: new Set(), "Joints 3D (m)": new Set(), "Joints 2D (px)": new Set() };
  for (const person of persons) {
    for (const [field, group, axes] of [
      ["keypoints_3d", "Joints 3D (m)", "xyz"],
      ["keypoints_2d", "Joints 2D (px)", "xy"],
    ]) {
      const joints = skeletons[person[field]?.skeleton]?.joints ?? [];
      for (const joint of joints) for (const axis of axes) groups[group].add(`${joint} ${axis} ${field.slice(-2)}`);
      for (const [name, three] of Object.entries(ANGLES)) {
        for (const side of ["left", "right"]) {
          if (three.every((joint) => joints.includes(`${side}_${joint}`))) groups.Angles.add(`${side} ${name}`);
        }
      }
    }
    for (const [path] of numbers(person)) if (groups.Plugins.size < MOST) groups.Plugins.add(path);
  }
  return Object.fromEntries(
    Object.entries(groups).filter(([, keys]) => keys.size).map(([group, keys]) => [group, [...keys]]),
  );
}

/** The value of a signal for one person; null where it has none. */
export function valueOf(key, person, skeletons) {
  const joint = /^(\w+) ([xyz]) (2d|3d)$/.exec(key);
  if (joint) {
    const pose = person[`keypoints_${joint[3]}`];
    const index = skeletons[pose?.skeleton]?.joints.indexOf(joint[1]) ?? -1;
    return index < 0 ? null : pose.points[index]["xyz".indexOf(joint[2])];
  }
  const angle = /^(left|right) (\w+)$/.exec(key);
  if (angle && ANGLES[angle[2]]) {
    for (const field of ["keypoints_3d", "keypoints_2d"]) {
      const joints = skeletons[person[field]?.skeleton]?.joints ?? [];
      const three = ANGLES[angle[2]].map((name) => joints.indexOf(`${angle[1]}_${name}`));
      if (three.every((index) => index >= 0)) return bend(...three.map((i) => person[field].points[i]), field);
    }
    return null;
  }
  for (const [path, value] of numbers(person)) if (path === key) return value;
  return null;
}

/** Degrees at the second of three points. */
function bend(a, b, c, field) {
  const axes = field === "keypoints_3d" ? [0, 1, 2] : [0, 1];
  const [u, v] = [a, c].map((end) => axes.map((i) => end[i] - b[i]));
  const [length, dot] = [Math.hypot(...u) * Math.hypot(...v), u.reduce((sum, x, i) => sum + x * v[i], 0)];
  return length > 0 ? (Math.acos(Math.max(-1, Math.min(1, dot / length))) * 180) / Math.PI : null;
}

/** Numbers, text and flags that plugins have added: [path, value], such as ["rep_counter.count", 3]. */
export function* extras(person) {
  yield* leaves(Object.fromEntries(Object.entries(person).filter(([key]) => !KNOWN.has(key))), "");
}

function* numbers(person) {
  for (const [path, value] of extras(person)) if (typeof value === "number") yield [path, value];
}

function* leaves(value, path) {
  if (value === null || value === undefined) return;
  if (Array.isArray(value)) {
    if (value.length > 4 || value.some((item) => typeof item === "object")) return; // points and the like
    for (let i = 0; i < value.length; i += 1) yield [`${path}.${i}`, value[i]];
  } else if (typeof value === "object") {
    for (const [key, item] of Object.entries(value)) yield* leaves(item, path ? `${path}.${key}` : key);
  } else {
    yield [path, value];
  }
}
