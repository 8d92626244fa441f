// The microphone as blocks of PCM, and how sounds are read.

export const FILE_RATE = 48000; // of sounds that are files, in Hz; a microphone has the rate of the sound device
const BLOCK_S = 0.02;
let shared = null;

/** The page's one AudioContext. Call it in a click: browsers keep it silent before. */
export function audioContext() {
  shared ??= new AudioContext();
  if (shared.state === "suspended") shared.resume();
  return shared;
}

/** Mono samples of a file. Throws where the browser cannot read it. */
export async function decodeSound(blob) {
  const context = new OfflineAudioContext(1, 1, FILE_RATE); // decodes without a click and without a sound device
  const decoded = await context.decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let index = 0; index < mono.length; index++) mono[index] += samples[index] / decoded.numberOfChannels;
  }
  return mono;
}

export function toPcm(samples) {
  const pcm = new Int16Array(samples.length);
  for (let index = 0; index < pcm.length; index++) {
    pcm[index] = Math.round(Math.max(-1, Math.min(1, samples[index])) * 32767);
  }
  return pcm;
}

/** A WAV file of mono 16-bit samples. */
export function wavOf(pcm, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const text = (place, word) => [...word].forEach((letter, index) => head.setUint8(place + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + pcm.byteLength, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, pcm.byteLength, true);
  return new Blob([head, pcm], { type: "audio/wav" });
}

export class Microphone {
  /** `onBlock(pcm, level)`: Int16Array, and its loudness 0 … 1. */
  constructor(onBlock) {
    this.onBlock = onBlock;
  }

  /** Throws an Error in words for people. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser gives the microphone only to pages of this machine or over https.");
    }
    const context = audioContext();
    try {
      const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
      this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new Error(REFUSED[error.name] ?? `The microphone cannot be opened: ${error.message}`);
    }
    await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
    this.source = context.createMediaStreamSource(this.stream);
    const options = { numberOfOutputs: 0, processorOptions: { block: Math.round(BLOCK_S * context.sampleRate) } };
    this.node = new AudioWorkletNode(context, "pcm", options);
    this.node.port.onmessage = ({ data }) => this.onBlock(new Int16Array(data.pcm), data.level);
    this.source.connect(this.node);
  }

  close() {
    this.source?.disconnect();
    if (this.node) this.node.port.onmessage = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.source = this.node = this.stream = null;
  }
}

const REFUSED = {
  NotAllowedError: "The microphone is not allowed for this page. Allow it in the address bar and try again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "Another program is using the microphone.",
};
