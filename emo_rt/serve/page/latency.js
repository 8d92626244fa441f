// From the first sound that is sent to the picture that shows it, as this page sees it.

const LONG_S = 2; // then a visitor wants to know that it takes long

export class Latency {
  /** `onMeasured(seconds)`: of each utterance. `onWaiting(seconds)`: of one that is not seen for so long. */
  constructor(video, onMeasured, onWaiting) {
    this.video = video;
    this.onMeasured = onMeasured;
    this.onWaiting = onWaiting;
    this.sentAt = null;
    this.shownFrom = null;
    this.last = null;
    if (video.requestVideoFrameCallback) this.watch();
  }

  watch() {
    this.handle = this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      const seconds = (performance.now() - this.sentAt) / 1000;
      if (this.shownFrom !== null && mediaTime >= this.shownFrom) {
        this.onMeasured(seconds);
        this.sentAt = this.shownFrom = null;
      } else if (this.sentAt !== null && seconds > LONG_S) {
        this.onWaiting(seconds);
      }
      this.watch();
    });
  }

  /** The first sound of an utterance goes out. */
  sent() {
    this.sentAt = performance.now();
    this.shownFrom = null;
  }

  /** What is known of a fragment that has come. */
  came(meta) {
    if (this.sentAt === null || this.shownFrom !== null) return;
    if (meta.speaking && meta.utterance !== this.last) {
      this.last = meta.utterance;
      this.shownFrom = meta.start_s;
    }
  }

  close() {
    if (this.handle) this.video.cancelVideoFrameCallback(this.handle);
  }
}
