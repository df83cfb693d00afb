// Saves what arrives as JSON Lines, one file per stream, which `--source replay://FILE` plays again.

const MOST = 256 * 1024 * 1024; // characters that are kept in memory

export class Recorder {
  constructor() {
    this.lines = null; // by stream, while it records
    this.size = 0;
    this.frames = 0;
  }

  get active() {
    return this.lines !== null;
  }

  start() {
    Object.assign(this, { lines: new Map(), size: 0, frames: 0 });
  }

  /** Keeps a message; false where there is no more room. */
  add(message) {
    if (!this.lines.has(message.stream)) this.lines.set(message.stream, []);
    const line = `${JSON.stringify(message, shorten)}\n`;
    this.lines.get(message.stream).push(line);
    this.size += line.length;
    this.frames += 1;
    return this.size < MOST;
  }

  /** Hands the files to the browser; returns their names. */
  stop() {
    const names = [];
    const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    for (const [stream, lines] of this.lines) {
      const name = `${stream.replace(/[^\w.-]/g, "_")}-${stamp}.jsonl`;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      names.push(name);
    }
    this.lines = null;
    return names;
  }
}

/** What came as float32 needs no more than it can mean. */
const shorten = (_, value) => (typeof value === "number" && !Number.isInteger(value) ? Math.round(value * 1e4) / 1e4 : value);
