// The voice: a file, a recording, a text that the server speaks, or the microphone itself.

import { postJson, requestJson } from "./api.js";
import { byId, makeTabs, minutes, svg, takeFiles } from "./dom.js";
import { FILE_RATE, Microphone, audioContext, decodeSound, wavOf } from "./microphone.js";

const BARS = 32;
const LONGEST_S = 120; // of a recording

export class Voice {
  /** `onChange()`: something is different. `onError(error)`: what went wrong, for people. */
  constructor(onChange, onError) {
    this.onChange = onChange;
    this.onError = onError;
    this.tab = "tab-file";
    this.blob = this.samples = null;
    this.choice = 0;
    makeTabs(document.querySelector("[role=tablist]"), (tab) => {
      this.tab = tab;
      if (tab !== "tab-record") this.stopRecording();
      this.draw();
      this.onChange();
    });
    takeFiles(byId("sound-drop"), byId("sound-file"), (file) => this.take(file, file.name));
    byId("sample").addEventListener("click", () => this.guard(() => this.takeSample()));
    byId("record").addEventListener("click", () => this.guard(() => this.toggleRecording()));
    byId("speak").addEventListener("click", () => this.guard(() => this.speak()));
    byId("listen").addEventListener("click", () => this.guard(() => this.listen()));
  }

  get isTalk() {
    return this.tab === "tab-talk";
  }

  get isReady() {
    return this.isTalk || Boolean(this.blob);
  }

  async guard(work) {
    try {
      await work();
    } catch (error) {
      this.onError(error);
    }
  }

  async take(blob, name) {
    const choice = ++this.choice;
    this.player?.pause();
    this.blob = this.samples = null;
    this.onChange();
    let samples = null;
    try {
      samples = await decodeSound(blob);
    } catch {
      this.onError(new Error(`This browser cannot read ${name}, so it cannot be watched live. “Make a video” may work.`));
    }
    if (choice !== this.choice) return;
    this.blob = blob;
    this.samples = samples;
    this.name = name;
    this.draw();
    this.onChange();
  }

  async takeSample() {
    const answer = await fetch("samples/voice.flac");
    await this.take(await answer.blob(), "Sample voice");
  }

  // What is shown

  draw() {
    byId("voice").hidden = !this.blob || this.isTalk;
    if (!this.blob) return;
    const seconds = this.samples ? this.samples.length / FILE_RATE : null;
    byId("voice-name").textContent = seconds === null ? this.name : `${this.name}, ${minutes(seconds)}`;
    byId("wave").replaceChildren(...bars(this.samples ?? new Float32Array(BARS)));
  }

  async listen() {
    if (this.player && !this.player.paused) return this.player.pause();
    const url = URL.createObjectURL(this.blob);
    this.player = new Audio(url);
    const button = byId("listen");
    this.player.onplay = () => (button.textContent = "Pause");
    this.player.onpause = () => {
      button.textContent = "Listen";
      URL.revokeObjectURL(url);
    };
    return this.player.play();
  }

  // Recording

  async toggleRecording() {
    if (this.microphone) return this.finishRecording();
    const blocks = [];
    const microphone = new Microphone((pcm, level) => {
      blocks.push(pcm);
      const seconds = (blocks.length * pcm.length) / audioContext().sampleRate;
      byId("record-time").textContent = minutes(seconds);
      byId("record-level").style.transform = `scaleX(${level})`;
      if (seconds >= LONGEST_S) this.finishRecording();
    });
    await microphone.open();
    this.blocks = blocks;
    this.microphone = microphone;
    byId("record").textContent = "Finish";
    return null;
  }

  async finishRecording() {
    const { blocks } = this;
    this.stopRecording();
    if (!blocks.length) return;
    const pcm = new Int16Array(blocks.reduce((sum, block) => sum + block.length, 0));
    let place = 0;
    for (const block of blocks) {
      pcm.set(block, place);
      place += block.length;
    }
    await this.take(wavOf(pcm, audioContext().sampleRate), "Recording.wav");
  }

  stopRecording() {
    this.microphone?.close();
    this.microphone = null;
    byId("record").textContent = "Record";
    byId("record-level").style.transform = "";
  }

  // Speech

  async listSpeakers() {
    const { data } = await requestJson("v1/audio/voices");
    const list = byId("speaker");
    const languages = navigator.languages.map((one) => one.toLowerCase());
    const wanted = languages.map((one) => data.find(({ id }) => id === one)).find(Boolean);
    list.replaceChildren(...data.map(({ id, name }) => new Option(name, id)));
    list.value = (wanted ?? data.find(({ id }) => id === "en-gb") ?? data[0])?.id ?? "";
    for (const control of [list, byId("speak"), byId("text")]) control.disabled = !data.length;
    byId("speech-hint").hidden = data.length > 0;
  }

  async speak() {
    const button = byId("speak");
    button.disabled = true;
    try {
      const asked = { model: "espeak-ng", input: byId("text").value, voice: byId("speaker").value };
      const answer = await postJson("v1/audio/speech", asked);
      await this.take(await answer.blob(), "Typed.wav");
    } finally {
      button.disabled = false;
    }
  }
}

function bars(samples) {
  const width = 96 / BARS;
  const part = Math.max(1, Math.floor(samples.length / BARS));
  const peaks = Array.from({ length: BARS }, (_, index) => {
    let most = 0;
    for (let place = index * part; place < Math.min(samples.length, (index + 1) * part); place++) {
      most = Math.max(most, Math.abs(samples[place]));
    }
    return most;
  });
  const loudest = Math.max(...peaks, 1e-3);
  return peaks.map((peak, index) => {
    const height = Math.max(2, (32 * peak) / loudest);
    return svg("rect", { x: index * width, y: 16 - height / 2, width: width * 0.6, height, rx: 0.8 });
  });
}
