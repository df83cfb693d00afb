// A VRM avatar moved by the pose. three.js and three-vrm are loaded only when there is one.

import { address } from "./connection.js";
import { Solver } from "./pose.js";

const MOST = 4; // people with an avatar of their own
const LARGEST = 200 * 1024 * 1024; // bytes of a file
const SOFT = 60; // milliseconds in which a bone follows

export class Avatar {
  #three = null;
  #bodies = new Map(); // by track: {vrm, solver, seen}
  #data = null; // the file
  #last = null;

  constructor(canvas) {
    this.canvas = canvas;
    this.bones = 0; // of the last frame that were moved
  }

  get active() {
    return this.#data !== null;
  }

  get tracks() {
    return new Set([...this.#bodies].filter(([, body]) => body.vrm).map(([track]) => track));
  }

  /** The avatar that the server was given; false where there is none. */
  async loadFromServer() {
    const response = await fetch(address("avatar.vrm"));
    if (!response.ok) return false;
    await this.load(await response.arrayBuffer());
    return true;
  }

  /** Takes a VRM file. Throws an Error with words for people where it is none. */
  async load(data) {
    if (data.byteLength > LARGEST) throw new Error("This file is too large for an avatar.");
    if (new TextDecoder("latin1").decode(data.slice(0, 4)) !== "glTF") throw new Error("This is not a VRM file.");
    await this.#prepare();
    const trial = await this.#parse(data); // before the old one goes
    this.clear();
    this.#data = data;
    this.#spare = trial;
    this.canvas.hidden = false;
  }

  #spare = null; // parsed, and nobody's yet

  clear() {
    for (const track of [...this.#bodies.keys()]) this.#drop(track);
    this.#data = null;
    this.#spare = null;
    this.canvas.hidden = true;
  }

  async #prepare() {
    if (this.#three) return;
    const [THREE, { GLTFLoader }, { VRMLoaderPlugin, VRMUtils }] = await Promise.all([
      import("./vendor/three.module.min.js"),
      import("./vendor/GLTFLoader.min.js"),
      import("./vendor/three-vrm.module.min.js"),
    ]);
    let renderer;
    try {
      renderer = new THREE.WebGLRenderer({ canvas: this.canvas, alpha: true, antialias: true });
    } catch {
      throw new Error("This browser has no WebGL, which an avatar needs.");
    }
    const loader = new GLTFLoader();
    loader.register((parser) => new VRMLoaderPlugin(parser));
    const scene = new THREE.Scene();
    const sun = new THREE.DirectionalLight(0xffffff, Math.PI * 0.62);
    sun.position.set(1, 2, 3);
    scene.add(sun, new THREE.HemisphereLight(0xffffff, 0x556070, Math.PI * 0.4));
    const camera = new THREE.PerspectiveCamera(30, 1, 0.05, 100);
    this.#three = { THREE, VRMUtils, renderer, loader, scene, camera };
  }

  async #parse(data) {
    let vrm;
    try {
      vrm = (await this.#three.loader.parseAsync(data.slice(0), "")).userData.vrm;
    } catch (error) {
      throw new Error(`This VRM file cannot be read: ${error.message}`);
    }
    if (!vrm?.humanoid) throw new Error("This file has no VRM humanoid.");
    this.#three.VRMUtils.rotateVRM0(vrm);
    vrm.scene.traverse((object) => (object.frustumCulled = false));
    return vrm;
  }

  #drop(track) {
    const body = this.#bodies.get(track);
    this.#bodies.delete(track);
    if (!body?.vrm) return;
    this.#three.scene.remove(body.vrm.scene);
    this.#three.VRMUtils.deepDispose(body.vrm.scene);
  }

  async #dress(track) {
    const body = { vrm: null, solver: new Solver(), rest: 0 };
    this.#bodies.set(track, body);
    const data = this.#data;
    const vrm = this.#spare ?? (await this.#parse(data));
    this.#spare = null;
    if (data !== this.#data || this.#bodies.get(track) !== body) return;
    body.rest = lowest(vrm, this.#three.THREE);
    body.vrm = vrm;
    this.#three.scene.add(vrm.scene);
  }

  /** Moves and draws the avatars of these people, seen as `Space` sees them. */
  draw(persons, places, skeletons, eye, now) {
    if (!this.active || !eye) return;
    const { THREE, renderer, scene, camera } = this.#three;
    const passed = this.#last === null ? 0 : Math.min(now - this.#last, 100);
    this.#last = now;
    const wanted = persons.filter((p) => places.has(p.track) && p.keypoints_3d).sort((a, b) => b.box[3] - a.box[3]).slice(0, MOST);
    for (const track of [...this.#bodies.keys()]) if (!wanted.some((p) => p.track === track)) this.#drop(track);
    this.bones = 0;
    for (const person of wanted) {
      const body = this.#bodies.get(person.track);
      if (!body) this.#dress(person.track).catch(() => this.#drop(person.track));
      if (!body?.vrm) continue;
      const turns = body.solver.solve(person, skeletons);
      if (turns) this.bones += pose(body.vrm, turns, 1 - Math.exp(-passed / SOFT), THREE);
      const [x, y, z] = places.get(person.track);
      body.vrm.scene.position.set(x, 0, -z);
      body.vrm.humanoid.update();
      // Feet on the floor; who jumps is as far above it as their own feet are.
      const jump = Math.max(0, -(y + Math.max(...person.keypoints_3d.points.map((point) => point[1]))));
      body.vrm.scene.position.y = body.rest - lowest(body.vrm, THREE) + jump;
      body.vrm.update(passed / 1000);
    }
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    renderer.setPixelRatio(ratio);
    renderer.setSize(eye.width, eye.height, false);
    camera.fov = (2 * Math.atan(eye.height / 2 / eye.focal) * 180) / Math.PI;
    camera.aspect = eye.width / Math.max(eye.height, 1);
    camera.updateProjectionMatrix();
    const spot = eye.target.map((value, i) => value - eye.forward[i] * eye.distance);
    camera.position.set(spot[0], -spot[1], -spot[2]);
    camera.up.set(-eye.down[0], eye.down[1], eye.down[2]);
    camera.lookAt(eye.target[0], -eye.target[1], -eye.target[2]);
    renderer.render(scene, camera);
  }
}

/** Turns the bones; returns how many. VRM 0 looks along -z. */
function pose(vrm, turns, share, THREE) {
  const back = vrm.meta?.metaVersion === "0" ? -1 : 1;
  let moved = 0;
  for (const [bone, [x, y, z, w]] of Object.entries(turns)) {
    const node = vrm.humanoid.getNormalizedBoneNode(bone);
    if (!node) continue;
    node.quaternion.slerp(new THREE.Quaternion(x * back, y, z * back, w), share || 1);
    moved += 1;
  }
  return moved;
}

/** Metres that the lowest foot's bone is above the avatar's own floor. */
function lowest(vrm, THREE) {
  vrm.scene.updateWorldMatrix(true, true);
  const spot = new THREE.Vector3();
  const heights = ["leftFoot", "rightFoot", "leftToes", "rightToes"]
    .map((bone) => vrm.humanoid.getRawBoneNode(bone))
    .filter(Boolean)
    .map((node) => node.getWorldPosition(spot).y - vrm.scene.position.y);
  return heights.length ? Math.min(...heights) : 0;
}
