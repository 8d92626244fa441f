// A voice that is there already, sent at the pace at which it is spoken, like a microphone's.

const BLOCK_S = 0.1;
const LOOK_MS = 40;

export class Speaker {
  /** `push(pcm)` gets the blocks; `onEnd()`: everything was sent. */
  constructor(pcm, rate, push, onEnd) {
    this.pcm = pcm;
    this.rate = rate;
    this.push = push;
    this.onEnd = onEnd;
    this.place = 0;
    this.begun = performance.now();
    this.timer = setInterval(() => this.work(), LOOK_MS);
    this.work();
  }

  work() {
    const block = Math.round(BLOCK_S * this.rate);
    const due = ((performance.now() - this.begun) / 1000 + BLOCK_S) * this.rate;
    while (this.place < this.pcm.length && this.place + block <= due) {
      this.push(this.pcm.subarray(this.place, this.place + block));
      this.place += block;
    }
    if (this.place >= this.pcm.length) {
      this.close();
      this.onEnd();
    }
  }

  close() {
    clearInterval(this.timer);
  }
}
