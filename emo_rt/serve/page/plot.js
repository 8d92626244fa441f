// Where the time goes: one column a second, its stages on top of each other.

import { byId, element, svg } from "./dom.js";

const STAGES = ["waiting", "queueing", "hearing", "denoising", "decoding", "buffered"];
const WORDS = {
  waiting: "waiting",
  queueing: "queueing",
  hearing: "hearing",
  denoising: "denoising",
  decoding: "decoding",
  buffered: "buffered",
};
const COLUMNS = 40;
const [WIDTH, HEIGHT] = [320, 96];

export class Plot {
  constructor() {
    this.clear();
  }

  clear() {
    this.columns = [];
    byId("plot").replaceChildren();
    byId("plot-top").textContent = "";
    byId("stages").replaceChildren();
  }

  /** `latency`: of session.stats, by stage; seconds. */
  add(latency) {
    if (!latency.total) return;
    this.columns.push(STAGES.map((stage) => latency[stage].p50));
    if (this.columns.length > COLUMNS) this.columns.shift();
    this.draw();
    this.list(latency);
  }

  draw() {
    const most = Math.max(...this.columns.map((parts) => parts.reduce((sum, part) => sum + part, 0)), 0.1);
    const step = WIDTH / COLUMNS;
    const shapes = this.columns.flatMap((parts, column) => {
      let top = HEIGHT;
      return parts.map((seconds, part) => {
        const height = (0.86 * HEIGHT * seconds) / most;
        top -= height;
        return svg("rect", { class: `part-${part}`, x: column * step, y: top, width: step * 0.72, height });
      });
    });
    byId("plot").replaceChildren(...shapes);
    byId("plot-top").textContent = `${most.toFixed(2)} s`;
  }

  list(latency) {
    const rows = STAGES.map((stage, part) => {
      const mark = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
      mark.append(svg("rect", { class: `part-${part}`, width: 10, height: 10 }));
      const seconds = `${latency[stage].p50.toFixed(2)} s`;
      return element("div", {}, element("dt", {}, mark, ` ${WORDS[stage]}`), element("dd", {}, seconds));
    });
    byId("stages").replaceChildren(...rows);
  }
}
