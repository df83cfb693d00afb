// What the page knows of each stream: its state, its newest message and picture, and the last seconds of both.

const FLAT = 60; // messages without a pose in space after which none is to be expected
const KEPT = 120; // messages kept to find the one that belongs to a picture
const RATE_OVER = 2000; // milliseconds over which frames are counted
const HISTORY = 10_000; // milliseconds that plots show
const MOST = 2400; // messages of that, at whatever rate they come
const OLDEST = 60_000; // milliseconds: what is older was captured for a recording, and its age is no latency
const FRESH = 2000; // milliseconds without a message after which what is drawn is no longer now

export class Stream {
  constructor(name) {
    this.name = name;
    this.state = "connecting";
    this.reason = null;
    this.picture = null; // "frozen" or "dark", where the engine says so
    this.dropped = 0; // frames that the engine lost
    this.frames = 0;
    this.previews = 0; // pictures shown
    this.stale = true; // the tile must be drawn again
    this.message = null;
    this.image = null; // {bitmap, seq}
    this.recent = new Map(); // messages by seq
    this.history = []; // {at, time, message} of the last seconds
    this.flat = 0; // messages with people of whom none has a pose in space, until the first that has
  }

  get persons() {
    return this.message?.persons ?? [];
  }

  /** The message to draw over the picture: that of the picture shown, or the newest. */
  get shown() {
    return (this.image && this.recent.get(this.image.seq)) ?? this.message;
  }

  get rate() {
    const since = performance.now() - RATE_OVER;
    const recent = this.history.filter(({ at }) => at > since);
    if (recent.length < 2) return 0;
    return ((recent.length - 1) * 1000) / (recent.at(-1).at - recent[0].at);
  }

  /** From the camera to the wire, in words; null where nothing has come, and of a recording played again. */
  get latency() {
    const age = this.message && Math.max(0, (this.message.published_at - this.message.captured_at) / 1e6);
    if (age === null || age > OLDEST) return null;
    return age < 10_000 ? `${age.toFixed(0)} ms` : `${(age / 1000).toFixed(0)} s`;
  }

  /** Whether the graph seems to have no stage that lifts poses into space. */
  get withoutSpace() {
    return this.flat > FLAT;
  }

  take(message, now) {
    this.frames += 1;
    this.dropped += message.dropped;
    if (this.message && this.message.epoch !== message.epoch) this.history = [];
    this.message = message;
    if (this.state === "connecting") this.setState("live", null);
    if (message.persons.some((person) => person.keypoints_3d)) this.flat = -Infinity;
    else if (message.persons.some((person) => person.keypoints_2d)) this.flat += 1;
    this.recent.set(message.seq, message);
    if (this.recent.size > KEPT) this.recent.delete(this.recent.keys().next().value);
    const time = message.pts / 1e6; // milliseconds of the stream's own clock
    this.history.push({ at: now, time, message });
    while (this.history[0].time < time - HISTORY || this.history.length > MOST) this.history.shift();
    this.stale ||= this.image === null || this.image.seq === message.seq;
  }

  setImage(bitmap, seq) {
    this.image?.bitmap.close();
    this.image = bitmap && { bitmap, seq };
    this.previews += 1;
    this.stale = true;
  }

  setState(state, reason, picture = null) {
    if (state !== this.state) this.stale = true;
    Object.assign(this, { state, reason: reason ?? null, picture });
    if (!["live", "connecting"].includes(state)) this.clear(state === "stalled");
  }

  /** Nothing that was seen is true any more; a stalled stream may keep its last picture, which is drawn pale. */
  clear(keepPicture = false) {
    this.message = null;
    this.recent.clear();
    if (!keepPicture) {
      this.image?.bitmap.close();
      this.image = null;
    }
    this.stale = true;
  }

  /** Nothing has come for a while, and nobody has said why. */
  silent(now) {
    return this.message !== null && this.history.length > 0 && now - this.history.at(-1).at > FRESH;
  }
}
