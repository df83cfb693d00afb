// Addresses on this server, and WebSockets that are opened again whenever they are lost.

const token = new URLSearchParams(location.search).get("token");

/** An address on this server, with the page's own token where it has one. */
export function address(path, query = {}) {
  const url = new URL(path, location.href);
  url.search = new URLSearchParams(token ? { ...query, token } : query);
  return url;
}

/** The same for a WebSocket. */
export function socketAddress(path, query) {
  const url = address(path, query);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** JSON from this server; null where it is away, and the HTTP status where it refuses. */
export async function ask(path, options) {
  try {
    const response = await fetch(address(path), options);
    return response.ok ? await response.json() : response.status;
  } catch {
    return null;
  }
}

const RETRY_FIRST = 500; // milliseconds
const RETRY_MOST = 5000;

/**
 * Keeps a WebSocket open. `onMessage(ArrayBuffer | text)`; `onState("connecting" | "live" | "ended" | "lost")`, where
 * "ended" means that the server said goodbye. Returns `{send(text)}`, which says nothing while there is no connection.
 */
export function keepOpen(path, query, onMessage, onState) {
  let socket = null;
  let delay = RETRY_FIRST;

  function open() {
    socket = new WebSocket(socketAddress(path, query));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      delay = RETRY_FIRST;
      onState("live");
    };
    socket.onmessage = (event) => onMessage(event.data);
    socket.onclose = (event) => {
      onState(event.code === 1001 ? "ended" : "lost");
      setTimeout(open, delay);
      delay = Math.min(delay * 2, RETRY_MOST);
    };
  }

  onState("connecting");
  open();
  return {
    send(text) {
      if (socket.readyState === WebSocket.OPEN) socket.send(text);
    },
  };
}
