// Live pictures: JPEG over a WebSocket, each acknowledged once it is decoded, so that the network sets the rate; or video
// over WebRTC where the server has it and few streams are on the screen.

import { keepOpen } from "./connection.js";
import { decode } from "./msgpack.js";

const REASK = 1000; // milliseconds between two looks at which pictures are wanted
const FEW = 4; // streams that may come over WebRTC
const RTP_STEP = 3000; // between two frames, see the server
const UP_IN = 5000; // milliseconds in which WebRTC must bring a picture
const RETRY_IN = 10000; // milliseconds until it is tried again
const TRIES = 3;

/**
 * Calls `onPicture(stream, bitmap, seq, via)`, via "jpeg" or "webrtc". `wanted()` gives `{stream: pixels wide}` of what is
 * on the screen; `webrtc` says whether the server has it.
 */
export function watchVideo(wanted, onPicture, webrtc = false) {
  let asked = "";
  let call = null; // the WebRTC connection
  let failed = 0; // connections that brought nothing

  async function onMessage(data) {
    if (typeof data === "string") {
      call?.hear(JSON.parse(data));
      return;
    }
    const { stream, seq, jpeg } = decode(data);
    try {
      onPicture(stream, await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })), seq, "jpeg");
    } catch {
      // A picture that cannot be decoded is not shown; the next one may be.
    }
    socket.send(JSON.stringify({ seen: stream }));
  }

  const socket = keepOpen("video", {}, onMessage, (state) => {
    asked = "";
    call?.end();
    call = null;
    if (state === "live") ask();
  });

  function ask() {
    const show = document.hidden ? {} : wanted();
    const names = Object.keys(show).sort();
    if (webrtc && names.length && names.length <= FEW) {
      if (call?.names.join() !== names.join()) {
        call?.end();
        call = new Call(names, socket, onPicture, () => {
          webrtc = false; // no way through this network, or a machine that is too busy: JPEG, and another try later
          call = null;
          failed += 1;
          if (failed < TRIES) setTimeout(() => ((webrtc = true), ask()), RETRY_IN);
          ask();
        });
      }
      for (const name of call.showing) delete show[name]; // JPEG until the video is there
    } else if (call) {
      call.end();
      call = null;
    }
    const text = JSON.stringify({ show });
    if (text !== asked) socket.send((asked = text));
  }

  document.addEventListener("visibilitychange", ask);
  setInterval(ask, REASK);
  return ask;
}

/** One WebRTC connection that brings the video of some streams. */
class Call {
  constructor(names, socket, onPicture, onFailed) {
    Object.assign(this, { names, onPicture, onFailed, first: {}, showing: new Set(), videos: [], over: false });
    this.peer = new RTCPeerConnection({ iceServers: [] });
    this.peer.ontrack = ({ transceiver, track }) => this.#watch(names[this.peer.getTransceivers().indexOf(transceiver)], track);
    this.peer.onconnectionstatechange = () => this.peer.connectionState === "failed" && this.#fail();
    this.timer = setTimeout(() => this.showing.size || this.#fail(), UP_IN);
    this.#offer(socket).catch(() => this.#fail());
  }

  async #offer(socket) {
    for (const _ of this.names) this.peer.addTransceiver("video", { direction: "recvonly" });
    await this.peer.setLocalDescription(await this.peer.createOffer());
    await new Promise((gathered) => {
      if (this.peer.iceGatheringState === "complete") return gathered();
      this.peer.onicegatheringstatechange = () => this.peer.iceGatheringState === "complete" && gathered();
      setTimeout(gathered, 1000);
    });
    if (this.over) return;
    const { type, sdp } = this.peer.localDescription;
    socket.send(JSON.stringify({ offer: { type, sdp }, streams: this.names }));
  }

  hear(said) {
    if (said.answer && !this.over) this.peer.setRemoteDescription(said.answer).catch(() => this.#fail());
    if (said.first) Object.assign(this.first, said.first);
  }

  #watch(name, track) {
    const video = document.createElement("video");
    Object.assign(video, { srcObject: new MediaStream([track]), muted: true, playsInline: true, autoplay: true });
    this.videos.push(video); // a reference, so that it is kept
    let start = null;
    const canvas = new OffscreenCanvas(2, 2);
    const onFrame = (_, { rtpTimestamp }) => {
      if (this.over) return;
      video.requestVideoFrameCallback(onFrame);
      if (!(name in this.first) || rtpTimestamp === undefined) return;
      start ??= rtpTimestamp;
      const seq = this.first[name] + Math.round(((rtpTimestamp - start) >>> 0) / RTP_STEP);
      // By way of a canvas: where the browser draws in software, createImageBitmap does not take a live video.
      Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      this.showing.add(name);
      this.onPicture(name, canvas.transferToImageBitmap(), seq, "webrtc");
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
    else this.#fail();
  }

  #fail() {
    if (this.over) return;
    this.end();
    this.onFailed();
  }

  end() {
    this.over = true;
    clearTimeout(this.timer);
    this.peer.close();
  }
}
