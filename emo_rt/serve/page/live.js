// One live session: speech goes up as PCM, a talking face comes down as fragments of MP4.

import { ApiError, openSocket, sentence } from "./api.js";

const STATS_MS = 1000;
const STOP_MS = 8000; // then a server that does not say goodbye is left
const CLOSED = { 1006: "The connection was lost.", 1012: "The server ends now. Start again in a moment." };

/**
 * Events: "started" (detail: video.start), "fragment" (detail: {meta, data}), "stats", "cleared", "trouble" (an ApiError
 * that does not end it), "ended" (detail: the ApiError that has ended it, or null).
 */
export class LiveSession extends EventTarget {
  constructor(start) {
    super();
    this.isOpen = false;
    this.isOver = false;
    this.error = null;
    this.meta = null;
    this.socket = openSocket("v1/realtime/video");
    this.socket.onopen = () => this.send({ type: "session.start", format: "m4s", ...start });
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.fragment(data));
    this.socket.onclose = ({ code }) => this.closed(code);
  }

  /** Int16Array at the session's rate. */
  push(pcm) {
    if (this.isOpen) this.socket.send(pcm.buffer.byteLength === pcm.byteLength ? pcm.buffer : pcm.slice().buffer);
  }

  endUtterance() {
    this.send({ type: "input_audio.end" });
  }

  interrupt() {
    this.send({ type: "input_audio.clear" });
  }

  stop() {
    if (!this.isOpen) this.socket.close();
    else this.send({ type: "session.stop" });
    this.goodbye ??= setTimeout(() => this.socket.close(), STOP_MS);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  heard(message) {
    switch (message.type) {
      case "video.start":
        this.isOpen = true;
        this.timer = setInterval(() => this.send({ type: "session.stats" }), STATS_MS);
        this.tell("started", message);
        break;
      case "video.chunk_metadata":
        this.meta = message;
        break;
      case "session.stats":
      case "session.done":
        this.tell("stats", message);
        break;
      case "input_audio.cleared":
        this.tell("cleared", message);
        break;
      case "error":
        this.error = new ApiError(0, message.code, sentence(message.message));
        this.tell("trouble", this.error);
        break;
    }
  }

  fragment(data) {
    this.tell("fragment", { meta: this.meta, data });
  }

  closed(code) {
    clearInterval(this.timer);
    clearTimeout(this.goodbye);
    if (this.isOver) return;
    const wasOpen = this.isOpen;
    this.isOpen = false;
    this.isOver = true;
    const isGood = code === 1000 || code === 1005;
    const words = wasOpen ? CLOSED[code] : "The server does not answer, or the API key is wrong.";
    this.tell("ended", isGood ? null : (this.error ?? new ApiError(0, "closed", words ?? "The session has ended.")));
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
