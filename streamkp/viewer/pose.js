// Bone rotations of a person in y-up axes (facing the camera is +z), from the wire or computed from the 3D joints.
// Vectors are [x, y, z], rotations quaternions [x, y, z, w], matrices three columns.

const sub = (a, b) => a.map((value, i) => value - b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const scaled = (a, factor) => a.map((value) => value * factor);
const mean = (a, b) => a.map((value, i) => (value + b[i]) / 2);
const unit = (a) => {
  const length = Math.hypot(...a);
  return length > 1e-9 ? scaled(a, 1 / length) : [0, 0, 0];
};

const multiply = (a, b) => b.map(([x, y, z]) => a[0].map((_, i) => a[0][i] * x + a[1][i] * y + a[2][i] * z));
const apply = (m, [x, y, z]) => m[0].map((_, i) => m[0][i] * x + m[1][i] * y + m[2][i] * z);
const transposed = (m) => [0, 1, 2].map((i) => m.map((column) => column[i]));

/** The rotation whose columns are y along `first`, and z as near to `second` as that allows. */
function frame(first, second) {
  const y = unit(first);
  const z = unit(sub(second, scaled(y, dot(second, y))));
  return [cross(y, z), y, z];
}

/** The smallest rotation that takes one direction to another. */
function swing(from, to) {
  const axis = cross(from, to);
  const [sin, cos] = [Math.hypot(...axis), dot(from, to)];
  if (sin < 1e-9) return cos > 0 ? [[1, 0, 0], [0, 1, 0], [0, 0, 1]] : [[-1, 0, 0], [0, -1, 0], [0, 0, 1]];
  const [x, y, z] = scaled(axis, 1 / sin);
  const t = 1 - cos;
  return [
    [t * x * x + cos, t * x * y + sin * z, t * x * z - sin * y],
    [t * x * y - sin * z, t * y * y + cos, t * y * z + sin * x],
    [t * x * z + sin * y, t * y * z - sin * x, t * z * z + cos],
  ];
}

function quaternion([[a, b, c], [d, e, f], [g, h, i]]) {
  const trace = a + e + i;
  let q;
  if (trace > 0) q = [f - h, g - c, b - d, 1 + trace];
  else if (a > e && a > i) q = [1 + a - e - i, d + b, g + c, f - h];
  else if (e > i) q = [d + b, 1 + e - a - i, h + f, g - c];
  else q = [g + c, h + f, 1 + i - a - e, b - d];
  const length = Math.hypot(...q) || 1;
  return q.map((value) => value / length);
}

const BENT = [0.1, 0.35]; // sine of a limb's bend between which its plane becomes believable
const [UP, LEFT] = [[0, 1, 0], [1, 0, 0]];
const PARENTS = {
  hips: null, spine: "hips", chest: "spine", neck: "chest", head: "neck",
  leftUpperArm: "chest", leftLowerArm: "leftUpperArm", rightUpperArm: "chest", rightLowerArm: "rightUpperArm",
  leftUpperLeg: "hips", leftLowerLeg: "leftUpperLeg", rightUpperLeg: "hips", rightLowerLeg: "rightUpperLeg",
};

export class Solver {
  #planes = {};

  /** Local rotations by bone (VRM's names), or null where there is no usable pose. */
  solve(person, skeletons) {
    const given = person.kinematics?.rotations;
    if (given) {
      return Object.fromEntries(Object.entries(given).map(([bone, q]) => [bone[0].toLowerCase() + bone.slice(1), q]));
    }
    const pose = person.keypoints_3d;
    const joints = skeletons[pose?.skeleton]?.joints ?? [];
    const at = (name) => {
      const point = pose.points[joints.indexOf(name)];
      return point && [point[0], -point[1], -point[2]];
    };
    const both = (joint) => [at(`left_${joint}`), at(`right_${joint}`)];
    if (!["hip", "shoulder", "knee", "ankle", "elbow", "wrist"].every((joint) => both(joint).every(Boolean))) return null;
    const [[leftHip, rightHip], [leftShoulder, rightShoulder]] = [both("hip"), both("shoulder")];
    const [hip, neck] = [mean(leftHip, rightHip), at("thorax") ?? mean(leftShoulder, rightShoulder)];
    const spine = at("spine") ?? mean(hip, neck);
    const world = { hips: trunk(sub(spine, hip), sub(leftHip, rightHip)) };
    world.chest = trunk(sub(neck, spine), sub(leftShoulder, rightShoulder));
    world.spine = world.chest;
    const head = at("head") ?? (at("left_ear") && at("right_ear") ? mean(at("left_ear"), at("right_ear")) : null);
    const rest = [0, Math.cos(0.35), Math.sin(0.35)]; // the head's keypoint lies in front of the neck
    const nod = head ? swing(rest, apply(transposed(world.chest), unit(sub(head, neck)))) : null;
    world.neck = world.head = nod ? multiply(world.chest, nod) : world.chest;
    for (const [side, sign] of [["left", 1], ["right", -1]]) {
      const limb = (...names) => names.map((joint) => at(`${side}_${joint}`));
      this.#limb(world, `${side}Upper`, "Arm", `${side}Lower`, limb("shoulder", "elbow", "wrist"), world.chest,
        scaled(LEFT, sign), scaled(UP, -sign));
      this.#limb(world, `${side}Upper`, "Leg", `${side}Lower`, limb("hip", "knee", "ankle"), world.hips, scaled(UP, -1), LEFT);
    }
    return Object.fromEntries(
      Object.entries(PARENTS).map(([bone, parent]) => [
        bone,
        quaternion(parent ? multiply(transposed(world[parent]), world[bone]) : world[bone]),
      ]),
    );
  }

  /** A limb at rest points along `rest` and bends about `axis`; a straight one keeps the plane that it had. */
  #limb(world, upperName, part, lowerName, [first, middle, last], parent, rest, axis) {
    const key = upperName + part;
    const [a, b] = [unit(sub(middle, first)), unit(sub(last, middle))];
    const normal = cross(a, b);
    const known = this.#planes[key];
    let usual = known ? apply(parent, known) : apply(multiply(parent, swing(rest, apply(transposed(parent), a))), axis);
    usual = unit(sub(usual, scaled(a, dot(usual, a))));
    const share = Math.max(0, Math.min(1, (Math.hypot(...normal) - BENT[0]) / (BENT[1] - BENT[0])));
    const mixed = unit(normal).map((value, i) => share * value + (1 - share) * usual[i]);
    const plane = Math.hypot(...mixed) > 0.05 ? unit(mixed) : usual;
    this.#planes[key] = apply(transposed(parent), plane);
    const upper = multiply(frame(a, plane), transposed(frame(rest, axis)));
    world[key] = upper;
    world[lowerName + part] = multiply(swing(a, b), upper);
  }
}

/** The rotation of a part of the trunk: y exactly along `up`, x as near to `left` as that allows. */
function trunk(up, left) {
  const y = unit(up);
  const x = unit(sub(left, scaled(y, dot(left, y))));
  return [x, y, cross(x, y)];
}
