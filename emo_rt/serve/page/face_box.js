// The frame around the face: dragged by its middle or a corner, or moved with the arrow keys.

const STEP = 0.01; // of the picture's shorter side, for one press of a key; with Shift five times as much
const LEAST = 0.08;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CORNERS = { "top-left": [0, 1], "top-right": [2, 1], "bottom-left": [0, 3], "bottom-right": [2, 3] };

export class FaceBox {
  /** `onChange(box)`: left, top, right and bottom in pixels of the picture, after each correction. */
  constructor(element, onChange) {
    this.element = element;
    this.onChange = onChange;
    this.box = null;
    for (const handle of element.querySelectorAll("button")) {
      handle.addEventListener("keydown", (event) => this.keyed(event, handle.dataset.corner));
      handle.addEventListener("pointerdown", (event) => this.grabbed(event, handle));
    }
  }

  show(box, width, height) {
    this.box = [...box];
    this.width = width;
    this.height = height;
    this.element.hidden = false;
    this.draw();
  }

  hide() {
    this.element.hidden = true;
  }

  keyed(event, corner) {
    const direction = KEYS[event.key];
    if (!direction) return;
    event.preventDefault();
    const step = STEP * Math.min(this.width, this.height) * (event.shiftKey ? 5 : 1);
    this.change(this.box, corner, direction[0] * step, direction[1] * step);
  }

  grabbed(event, handle) {
    if (event.button !== 0) return;
    const from = [...this.box];
    const scale = this.width / this.element.parentElement.getBoundingClientRect().width;
    const moved = (to) => {
      const [x, y] = [to.clientX - event.clientX, to.clientY - event.clientY];
      this.change(from, handle.dataset.corner, x * scale, y * scale);
    };
    const let_go = () => handle.removeEventListener("pointermove", moved);
    handle.setPointerCapture(event.pointerId);
    handle.addEventListener("pointermove", moved);
    handle.addEventListener("lostpointercapture", let_go, { once: true });
  }

  change(from, corner, x, y) {
    const box = [...from];
    if (!corner) {
      const across = clamp(x, -box[0], this.width - box[2]);
      const down = clamp(y, -box[1], this.height - box[3]);
      this.box = [box[0] + across, box[1] + down, box[2] + across, box[3] + down];
    } else {
      const least = LEAST * Math.min(this.width, this.height);
      const [side, end] = CORNERS[corner];
      box[side] = side === 0 ? clamp(box[0] + x, 0, box[2] - least) : clamp(box[2] + x, box[0] + least, this.width);
      box[end] = end === 1 ? clamp(box[1] + y, 0, box[3] - least) : clamp(box[3] + y, box[1] + least, this.height);
      this.box = box;
    }
    this.draw();
    this.onChange(this.box.map((value) => Math.round(value * 10) / 10));
  }

  draw() {
    const [left, top, right, bottom] = this.box;
    const percent = (share) => `${100 * share}%`;
    const { style } = this.element;
    style.left = percent(left / this.width);
    style.top = percent(top / this.height);
    style.width = percent((right - left) / this.width);
    style.height = percent((bottom - top) / this.height);
  }
}

function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}
