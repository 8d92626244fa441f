// The stage: the portrait, a live session, or a finished video.

import { byId } from "./dom.js";
import { Latency } from "./latency.js";
import { LiveSession } from "./live.js";
import { FILE_RATE, Microphone, audioContext, toPcm } from "./microphone.js";
import { Player } from "./player.js";
import { Plot } from "./plot.js";
import { Speaker } from "./speaker.js";

const FRAGMENT_FRAMES = 1;
const QUIET_S = 1.0; // of silence behind the voice, then a session that nobody talks to ends
const AFTER_INTERRUPT_S = 3.0;
const PATIENCE_S = 20; // where less was spoken than there is
const SLACK_S = 0.3; // of what is spoken
const RATES = [16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000]; // what AAC carries and contexts have

export class Stage {
  /** `onChange()`: live or not. `onError(error)`: what went wrong, for people. */
  constructor(onChange, onError) {
    this.onChange = onChange;
    this.onError = onError;
    this.video = byId("video");
    this.plot = new Plot();
    this.session = null;
    this.shownUrl = null;
    byId("interrupt").addEventListener("click", () => this.interrupt());
    byId("stop").addEventListener("click", () => this.stop());
    byId("back").addEventListener("click", () => this.showPortrait());
    byId("mute").addEventListener("click", () => this.setMuted(!this.video.muted));
    this.video.addEventListener("ended", () => this.replayable());
  }

  get isLive() {
    return this.session !== null;
  }

  // Live

  /** `start`: model, image_reference, extra_params. `samples`: the voice, or null for the microphone. */
  async watch(start, samples) {
    if (!Player.isSupported) throw new Error("This browser cannot play live video. “Make a video” works in all.");
    const isTalk = samples === null;
    const rate = isTalk ? await this.openMicrophone() : FILE_RATE;
    this.begin(isTalk);
    const session = new LiveSession({
      ...start,
      sample_rate: rate,
      fragment_frames: FRAGMENT_FRAMES,
      lag: isTalk ? "drop" : "slow",
    });
    this.session = session;
    session.addEventListener("started", ({ detail }) => this.started(session, detail.config, samples));
    session.addEventListener("fragment", ({ detail }) => this.fragment(session, detail));
    session.addEventListener("stats", ({ detail }) => this.measured(detail));
    session.addEventListener("cleared", () => this.say("Interrupted. The face is silent again."));
    session.addEventListener("trouble", ({ detail }) => this.onError(detail));
    session.addEventListener("ended", ({ detail }) => this.ended(detail));
    this.onChange();
  }

  /** Gives the rate of its sound. */
  async openMicrophone() {
    const { sampleRate } = audioContext();
    if (!RATES.includes(sampleRate)) {
      throw new Error(`The sound device runs at ${sampleRate} Hz, which live video cannot have.`);
    }
    const microphone = new Microphone((pcm, level) => {
      byId("talk-level").style.transform = `scaleX(${level})`;
      if (!this.session?.isOpen) return;
      if (!this.hasTalked) this.latency.sent();
      this.hasTalked = true;
      this.session.push(pcm);
    });
    await microphone.open();
    this.microphone = microphone;
    return sampleRate;
  }

  begin(isTalk) {
    this.player?.close();
    this.latency?.close();
    this.forgetUrl();
    this.plot.clear();
    this.isTalk = isTalk;
    this.isSent = this.hasTalked = this.isInterrupted = this.hasPicture = false;
    this.quietS = this.spokenS = this.queuedS = 0;
    byId("measures").hidden = false;
    byId("latency").textContent = "–";
    byId("health").textContent = "";
    byId("download").hidden = byId("back").hidden = true;
    this.video.controls = false;
    this.setMuted(isTalk);
    this.player = new Player(this.video, (error) => {
      this.onError(error);
      this.stop();
    });
    const show = (words) => {
      if (byId("latency").textContent !== words) byId("latency").textContent = words; // it is read out when it changes
    };
    this.latency = new Latency(
      this.video,
      (seconds) => show(`${seconds.toFixed(2)} s`),
      (seconds) => show(`> ${Math.floor(seconds)} s`),
    );
    this.say("Preparing the portrait …");
  }

  started(session, config, samples) {
    this.fps = config.fps;
    this.say(this.isTalk ? "Speak now." : "Live.");
    if (this.isTalk) return;
    const send = (pcm) => {
      if (!this.speaker) this.latency.sent();
      session.push(pcm);
    };
    this.voiceS = samples.length / FILE_RATE;
    this.speaker = null;
    this.speaker = new Speaker(toPcm(samples), FILE_RATE, send, () => {
      session.endUtterance();
      this.isSent = true;
    });
  }

  fragment(session, { meta, data }) {
    if (session !== this.session) return;
    if (!this.hasPicture) this.showVideo();
    this.hasPicture = true;
    this.player.append(data);
    this.latency.came(meta);
    this.watchForEnd(meta);
  }

  /** A session for one voice ends by itself, a moment after the last word. A slow machine makes pauses before it. */
  watchForEnd(meta) {
    const seconds = meta.num_frames / this.fps;
    this.spokenS += meta.speaking ? seconds : 0;
    const isPending = this.queuedS > 0 && !this.isInterrupted;
    this.quietS = meta.speaking || isPending ? 0 : this.quietS + seconds;
    const isWhole = this.spokenS > this.voiceS - SLACK_S;
    const isDone = this.isSent || this.isInterrupted;
    const patience = this.isInterrupted ? AFTER_INTERRUPT_S : isWhole ? QUIET_S : PATIENCE_S;
    if (!this.isTalk && isDone && this.quietS >= patience && !this.isStopping) this.stop();
  }

  measured(stats) {
    this.queuedS = stats.queued_s;
    this.plot.add(stats.latency);
    const words = [];
    if (stats.late_frames) words.push(`${stats.late_frames} frames were late`);
    if (stats.dropped_s) words.push(`${stats.dropped_s.toFixed(1)} s of sound were left out`);
    if (stats.is_too_slow) words.push("this machine is too slow for the model in real time, and “Make a video” has no hurry");
    byId("health").textContent = words.length ? `Preset ${stats.rung}; ${words.join("; ")}.` : `Preset ${stats.rung}.`;
  }

  interrupt() {
    if (!this.isTalk) {
      this.speaker?.close();
      this.isInterrupted = true;
      this.quietS = 0;
    }
    this.session?.interrupt();
  }

  stop() {
    this.isStopping = true;
    this.speaker?.close();
    this.closeMicrophone();
    this.session?.stop();
  }

  closeMicrophone() {
    this.microphone?.close();
    this.microphone = null;
    byId("talk-level").style.transform = "";
  }

  ended(error) {
    this.session = null;
    this.isStopping = false;
    this.speaker?.close();
    this.closeMicrophone();
    this.player.end();
    const recording = error ? null : this.player.recording();
    if (recording) this.offer(URL.createObjectURL(recording));
    else if (this.video.hidden) byId("measures").hidden = true;
    byId("back").hidden = this.video.hidden;
    byId("badge").hidden = true;
    this.say(recording ? "Done. Download it, or make a video in full quality." : "");
    this.onChange();
    if (error) this.onError(error);
  }

  // What is seen

  offer(url) {
    this.recordingUrl = url;
    const link = byId("download");
    link.href = url;
    link.hidden = false;
    if (this.video.ended || this.video.muted) this.replayable();
  }

  /** A recording has a known length and can be wound back; the stream could not. */
  replayable() {
    if (this.isLive || !this.recordingUrl || this.shownUrl === this.recordingUrl) return;
    this.player?.close();
    this.latency?.close();
    this.video.src = this.shownUrl = this.recordingUrl;
    this.video.playbackRate = 1;
    this.video.controls = true;
    this.setMuted(false);
  }

  /** A finished video. */
  show(url, name) {
    this.player?.close();
    this.latency?.close();
    this.forgetUrl();
    byId("measures").hidden = byId("download").hidden = true;
    this.video.src = this.shownUrl = url;
    this.video.controls = true;
    this.setMuted(false);
    this.showVideo();
    byId("back").hidden = false;
    this.say(name);
    this.video.play().catch(() => {});
    this.onChange();
  }

  showVideo() {
    this.video.hidden = false;
    byId("face-box").hidden = true;
    byId("badge").hidden = !this.isLive;
  }

  showPortrait() {
    if (this.isLive) return;
    this.player?.close();
    this.latency?.close();
    this.forgetUrl();
    this.video.removeAttribute("src");
    this.video.load();
    this.video.hidden = true;
    byId("face-box").hidden = false;
    byId("measures").hidden = byId("download").hidden = byId("back").hidden = true;
    this.say("");
    this.onChange();
  }

  forgetUrl() {
    for (const url of new Set([this.recordingUrl, this.shownUrl])) if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
    this.recordingUrl = this.shownUrl = null;
  }

  setMuted(isMuted) {
    this.video.muted = isMuted;
    byId("mute").textContent = isMuted ? "Sound on" : "Mute";
  }

  say(words) {
    byId("status").textContent = words;
  }
}
