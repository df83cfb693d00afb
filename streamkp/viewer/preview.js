// The newest image of the chosen stream, fetched one at a time, each with the `seq` of the frame that it shows.

import { address } from "./connection.js";

const PAUSE = 30; // milliseconds between two images
const PAUSE_WITHOUT = 1000; // and after a failure

/** Calls `onImage(image, seq)`, and `onImage(null)` when the stream has none. `stream()` names the chosen one. */
export async function watch(stream, onImage) {
  for (;;) {
    const name = stream();
    let pause = PAUSE_WITHOUT;
    if (name !== null && !document.hidden) {
      try {
        const response = await fetch(address(`preview/${encodeURIComponent(name)}.jpg`));
        if (response.ok) {
          const image = await createImageBitmap(await response.blob());
          if (name === stream()) onImage(image, Number(response.headers.get("X-Streamkp-Seq")));
          pause = PAUSE;
        } else if (name === stream()) {
          onImage(null);
        }
      } catch {
        pause = PAUSE_WITHOUT; // the server is away; the last image stays
      }
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}
