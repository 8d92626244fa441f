// From the first sound that is sent to the picture that shows it, as this page sees it.

export class Latency {
  /** `onMeasured(seconds)`: of each utterance. */
  constructor(video, onMeasured) {
    this.video = video;
    this.onMeasured = onMeasured;
    this.sentAt = null;
    this.shownFrom = null;
    this.last = null;
    if (video.requestVideoFrameCallback) this.watch();
  }

  watch() {
    this.handle = this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (this.shownFrom !== null && mediaTime >= this.shownFrom) {
        this.onMeasured((performance.now() - this.sentAt) / 1000);
        this.sentAt = this.shownFrom = null;
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
