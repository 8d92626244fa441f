// Fragments of MP4 → a <video> that stays close to the newest of them.

import { mimeType } from "./mp4.js";

const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;
const LOOK_MS = 250;
const FAR_S = 2.0; // behind the newest picture: jump
const LEAST_S = 0.1; // to keep behind it; a stream that comes unevenly needs more
const MORE_S = 0.1; // after each time that the video had to wait
const MOST_S = 0.6;
const SLACK_S = 0.03; // more than that: play a little faster
const KEEP_S = 20; // of what was seen
const MOST_RECORDED = 256 << 20; // bytes

export class Player {
  /** Takes the video over. `onFailure(error)`: the browser cannot play it. */
  constructor(video, onFailure) {
    this.video = video;
    this.onFailure = onFailure;
    this.waiting = [];
    this.recorded = [];
    this.recordedBytes = 0;
    this.isCut = false;
    this.isEnding = false;
    this.buffer = null;
    this.source = Source ? new Source() : null;
    this.isOpen = false;
    this.reserve = LEAST_S;
    if (!this.source) return;
    this.source.addEventListener("sourceopen", () => this.opened(), { once: true });
    video.disableRemotePlayback = true; // without it Safari's ManagedMediaSource stays closed
    this.starved = () => this.hasBegun && (this.reserve = Math.min(this.reserve + MORE_S, MOST_S));
    video.addEventListener("waiting", this.starved);
    video.src = this.url = URL.createObjectURL(this.source);
    this.timer = setInterval(() => this.stayClose(), LOOK_MS);
  }

  static get isSupported() {
    return Boolean(Source);
  }

  append(data) {
    const bytes = new Uint8Array(data);
    this.record(bytes);
    this.waiting.push(bytes);
    this.work();
  }

  /** Everything is here. */
  end() {
    this.isEnding = true;
    this.work();
  }

  /** The recording, or null where it grew too large or is empty. */
  recording() {
    if (this.isCut || !this.recorded.length) return null;
    return new Blob(this.recorded, { type: "video/mp4" });
  }

  close() {
    clearInterval(this.timer);
    this.video.removeEventListener("waiting", this.starved);
    this.waiting = [];
    this.isClosed = true;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }

  record(bytes) {
    if (this.isCut) return;
    this.recordedBytes += bytes.byteLength;
    this.recorded.push(bytes);
    if (this.recordedBytes > MOST_RECORDED) {
      this.isCut = true;
      this.recorded = [];
    }
  }

  opened() {
    this.isOpen = true;
    this.work();
  }

  /** One thing at a time: SourceBuffers tell when they are free. */
  work() {
    if (this.isClosed || !this.isOpen || this.buffer?.updating || this.source.readyState !== "open") return;
    try {
      if (this.waiting.length) {
        this.buffer ??= this.makeBuffer(this.waiting[0]);
        this.buffer.appendBuffer(this.waiting[0]);
        this.waiting.shift();
      } else if (this.isEnding) {
        this.source.endOfStream();
      }
    } catch (error) {
      if (error.name === "QuotaExceededError") this.forget(1);
      else this.fail(error);
    }
  }

  makeBuffer(first) {
    const type = mimeType(first);
    if (!Source.isTypeSupported(type)) throw new Error(`This browser cannot play ${type}.`);
    this.type = type;
    const buffer = this.source.addSourceBuffer(type);
    buffer.addEventListener("updateend", () => {
      this.begin();
      this.work();
    });
    buffer.addEventListener("error", () => this.fail(new Error("This browser cannot read the stream.")));
    return buffer;
  }

  /** Play as soon as there is something. Without a click before it, browsers allow that only in silence. */
  begin() {
    if (this.hasBegun || this.isClosed || !this.buffer.buffered.length) return;
    this.hasBegun = true;
    this.video.currentTime = this.buffer.buffered.start(0);
    this.video.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      this.video.muted = true;
      this.video.play().catch(() => {});
    });
  }

  stayClose() {
    if (this.isClosed || !this.buffer?.buffered.length || this.isEnding) return;
    const { buffered } = this.buffer;
    const end = buffered.end(buffered.length - 1);
    const behind = end - this.video.currentTime;
    if (behind > FAR_S || this.video.currentTime < buffered.start(0)) this.video.currentTime = end - this.reserve;
    this.video.playbackRate = behind > this.reserve + SLACK_S ? 1.1 : 1;
    if (this.video.currentTime - buffered.start(0) > 2 * KEEP_S) this.forget(KEEP_S);
  }

  forget(keep) {
    const until = this.video.currentTime - keep;
    if (!this.buffer.updating && until > this.buffer.buffered.start(0)) this.buffer.remove(0, until);
  }

  fail(error) {
    this.close();
    this.onFailure(error);
  }
}
