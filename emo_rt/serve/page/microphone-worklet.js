// Runs beside the page: collects the microphone's samples in blocks of PCM s16le.

class Pcm extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.size = processorOptions.block;
    this.begin();
  }

  begin() {
    this.block = new Int16Array(this.size);
    this.filled = 0;
    this.energy = 0;
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      const held = Math.max(-1, Math.min(1, sample));
      this.block[this.filled++] = Math.round(held * 32767);
      this.energy += held * held;
      if (this.filled === this.size) this.give();
    }
    return true;
  }

  give() {
    const level = Math.min(1, 4 * Math.sqrt(this.energy / this.size));
    const pcm = this.block.buffer;
    this.port.postMessage({ pcm, level }, [pcm]);
    this.begin();
  }
}

registerProcessor("pcm", Pcm);
