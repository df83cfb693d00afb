// Live pictures: JPEG over a WebSocket, each acknowledged once it is decoded, so that the network sets the rate.

import { keepOpen } from "./connection.js";
import { decode } from "./msgpack.js";

const REASK = 1000; // milliseconds between two looks at which pictures are wanted

/**
 * Calls `onPicture(stream, bitmap, seq)`. `wanted()` gives `{stream: pixels wide}` of what is on the screen.
 */
export function watchVideo(wanted, onPicture) {
  let asked = "";

  async function onMessage(data) {
    const { stream, seq, jpeg } = decode(data);
    try {
      onPicture(stream, await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })), seq);
    } catch {
      // A picture that cannot be decoded is not shown; the next one may be.
    }
    socket.send(JSON.stringify({ seen: stream }));
  }

  const socket = keepOpen("video", {}, onMessage, (state) => {
    asked = "";
    if (state === "live") ask();
  });

  function ask() {
    const show = JSON.stringify({ show: document.hidden ? {} : wanted() });
    if (show !== asked) socket.send((asked = show));
  }

  document.addEventListener("visibilitychange", ask);
  setInterval(ask, REASK);
  return ask;
}
