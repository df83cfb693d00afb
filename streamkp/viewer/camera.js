// Sends this device's camera to a source `browser://NAME`: over WebRTC where the server has it, else as JPEG.

import { ask, socketAddress } from "./connection.js";

const WIDTH = 640; // pixels of what is sent as JPEG
const IN_FLIGHT = 2; // pictures that the server has not confirmed yet
const QUALITY = 0.8;
const UP_IN = 5000; // milliseconds in which WebRTC must be connected

const INSECURE =
  "Browsers give a page the camera only over https or on localhost. Serve the page with " +
  "`tls: {cert: FILE, key: FILE}` on the stage publish-websocket, or reach it as http://localhost through a tunnel.";
const NOBODY =
  "No source waits for a camera. Start streamkp with --source browser://me, or use `streamkp run browser`.";

export class Camera {
  /** `onChange(state, words)`: "off", "starting", "sending" or "failed". */
  constructor(onChange) {
    this.onChange = onChange;
    this.state = "off";
    this.sent = 0; // pictures as JPEG
    this.via = null; // "jpeg" or "webrtc"
    this.stream = null; // of the engine, that shows it
  }

  #set(state, words = "") {
    this.state = state;
    this.onChange(state, words);
  }

  /** `facing`: "user" or "environment"; `plain`: not over WebRTC. */
  async start({ facing = "user", plain = false } = {}) {
    this.#set("starting");
    if (!navigator.mediaDevices) return this.#set("failed", INSECURE);
    try {
      const target = await this.#target();
      if (!target) return this.#set("failed", NOBODY);
      this.media = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
      });
      this.media.getVideoTracks()[0].onended = () => this.stop("The camera was switched off.");
      this.stream = target.stream;
      await this.#connect(target.name, target.webrtc && !plain);
    } catch (error) {
      this.stop(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera." : `${error.message}`);
    }
  }

  /** The source that waits, or a new one where the server lets streams be added. */
  async #target() {
    const found = await ask("cameras");
    if (found?.waiting?.length) return { ...found.waiting[0], webrtc: found.webrtc };
    const name = `camera-${Math.random().toString(36).slice(2, 6)}`;
    const added = await ask("api/v1/streams", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name, uri: `browser://${name}` }),
    });
    if (added === null || typeof added === "number") return null;
    for (let tries = 0; tries < 50; tries += 1) {
      const now = await ask("cameras");
      const mine = now?.waiting?.find((each) => each.name === name);
      if (mine) return { ...mine, webrtc: now.webrtc };
      await new Promise((done) => setTimeout(done, 100));
    }
    return null;
  }

  #connect(name, webrtc) {
    return new Promise((done, fail) => {
      const socket = (this.socket = new WebSocket(socketAddress("camera", { to: name })));
      socket.onopen = () => {
        (webrtc ? this.#overWebrtc(socket) : this.#asJpeg(socket)).then(done, async (error) => {
          if (!webrtc) return fail(error);
          // Some networks let nothing but http through.
          socket.onclose = null;
          this.#hangUp();
          socket.close();
          setTimeout(() => this.#connect(name, false).then(done, fail), 300);
        });
      };
      socket.onclose = () => {
        fail(new Error("The server did not take the camera."));
        if (this.state === "sending") this.stop("The server has ended the connection.");
      };
    });
  }

  async #asJpeg(socket) {
    const video = document.createElement("video");
    Object.assign(video, { srcObject: this.media, muted: true, playsInline: true });
    await video.play();
    this.video = video;
    this.via = "jpeg";
    const canvas = document.createElement("canvas");
    let [underWay, busy] = [0, false];
    socket.onmessage = () => (underWay = Math.max(0, underWay - 1));
    const grab = async (now) => {
      if (this.video !== video) return;
      this.#next(video, grab);
      if (busy || underWay >= IN_FLIGHT || !video.videoWidth) return;
      busy = true;
      const scale = Math.min(1, WIDTH / video.videoWidth);
      canvas.width = Math.round(video.videoWidth * scale);
      canvas.height = Math.round(video.videoHeight * scale);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((got) => canvas.toBlob(got, "image/jpeg", QUALITY));
      busy = false;
      if (!blob || socket.readyState !== WebSocket.OPEN) return;
      const message = new Uint8Array(8 + blob.size);
      new DataView(message.buffer).setFloat64(0, now, true);
      message.set(new Uint8Array(await blob.arrayBuffer()), 8);
      underWay += 1;
      this.sent += 1;
      socket.send(message);
    };
    this.#next(video, grab);
    this.#set("sending");
  }

  #next(video, grab) {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(grab);
    else setTimeout(() => grab(performance.now()), 33);
  }

  async #overWebrtc(socket) {
    const peer = (this.peer = new RTCPeerConnection({ iceServers: [] }));
    for (const track of this.media.getVideoTracks()) peer.addTrack(track, this.media);
    await peer.setLocalDescription(await peer.createOffer());
    await new Promise((gathered) => {
      if (peer.iceGatheringState === "complete") return gathered();
      peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && gathered();
      setTimeout(gathered, 1000);
    });
    const answer = new Promise((got, fail) => {
      socket.onmessage = (event) => got(JSON.parse(event.data));
      setTimeout(() => fail(new Error("no answer")), UP_IN);
    });
    const { type, sdp } = peer.localDescription;
    socket.send(JSON.stringify({ type, sdp }));
    await peer.setRemoteDescription(await answer);
    await new Promise((up, fail) => {
      const look = () => {
        if (peer.connectionState === "connected") up();
        else if (peer.connectionState === "failed") fail(new Error("no way to the server"));
      };
      peer.onconnectionstatechange = look;
      look();
      setTimeout(() => fail(new Error("no way to the server")), UP_IN);
    });
    this.via = "webrtc";
    this.#set("sending");
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") this.stop("The connection to the server was lost.");
    };
  }

  #hangUp() {
    if (this.peer) this.peer.onconnectionstatechange = null;
    this.peer?.close();
    this.peer = null;
    this.video = null;
  }

  stop(words = "") {
    this.#hangUp();
    this.media?.getTracks().forEach((track) => track.stop());
    this.media = null;
    if (this.socket) this.socket.onclose = null;
    this.socket?.close();
    this.socket = null;
    this.#set(words ? "failed" : "off", words);
  }
}
