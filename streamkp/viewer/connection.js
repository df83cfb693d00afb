// The connection to the server: one WebSocket for the chosen stream, opened again whenever it is lost.

const token = new URLSearchParams(location.search).get("token");

/** An address on this server, with the page's own token where it has one. */
export function address(path, query = {}) {
  const url = new URL(path, location.href);
  url.search = new URLSearchParams(token ? { ...query, token } : query);
  return url;
}

const RETRY_FIRST = 500;
const RETRY_MOST = 8000;

/** Calls `onMessage(message)` and `onState("connecting" | "live" | "ended")`; `choose(stream)` changes the stream. */
export function connect(onMessage, onState) {
  let socket = null;
  let timer = null;
  let delay = RETRY_FIRST;
  let stream = null;

  function open() {
    const url = address("ws", { stream, format: "json" });
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = (socket = new WebSocket(url));
    onState("connecting");
    mine.onopen = () => {
      delay = RETRY_FIRST;
      if (mine === socket) onState("live");
    };
    mine.onmessage = (event) => {
      if (mine === socket) onMessage(JSON.parse(event.data));
    };
    mine.onclose = (event) => {
      if (mine !== socket) return;
      onState(event.code === 1001 ? "ended" : "connecting");
      timer = setTimeout(open, delay);
      delay = Math.min(delay * 2, RETRY_MOST);
    };
  }

  return function choose(next) {
    stream = next;
    clearTimeout(timer);
    const old = socket;
    socket = null;
    old?.close();
    open();
  };
}
