// The videos of this visitor, as the server keeps them: a reload loses nothing.

import { mediaAddress, requestJson, request } from "./api.js";
import { byId, element, svg } from "./dom.js";

const PAGE = 12;
const BUSY_MS = 700;
const IDLE_MS = 15000;
const WORDS = { queued: "Waiting", in_progress: "In progress", completed: "Done", failed: "Failed" };

export class Gallery {
  /** `show(url, name)`: play one. `onError(error)`: what went wrong, for people. */
  constructor(show, onError) {
    this.show = show;
    this.onError = onError;
    this.cards = new Map();
    this.limit = PAGE;
    byId("more").addEventListener("click", () => {
      this.limit += PAGE;
      this.refresh();
    });
  }

  /** Ask now, and from then on by itself. */
  async refresh() {
    clearTimeout(this.timer);
    const round = (this.round = (this.round ?? 0) + 1);
    let isBusy = false;
    try {
      const { data, has_more } = await this.list();
      if (round !== this.round) return;
      this.draw(data);
      byId("more").hidden = !has_more;
      isBusy = data.some(({ status }) => status === "queued" || status === "in_progress");
      this.isAway = false;
    } catch (error) {
      if (!this.isAway) this.onError(error);
      this.isAway = true;
    }
    if (round === this.round) this.timer = setTimeout(() => this.refresh(), isBusy ? BUSY_MS : IDLE_MS);
  }

  async list() {
    const data = [];
    for (;;) {
      const after = data.length ? `&after=${data.at(-1).id}` : "";
      const page = await requestJson(`v1/videos?limit=${Math.min(100, this.limit - data.length)}${after}`);
      data.push(...page.data);
      if (!page.has_more || data.length >= this.limit) return { data, has_more: page.has_more };
    }
  }

  draw(jobs) {
    const list = byId("jobs");
    const known = new Set(jobs.map(({ id }) => id));
    for (const [id, card] of this.cards) {
      if (known.has(id)) continue;
      card.root.remove();
      this.cards.delete(id);
    }
    for (const [place, job] of jobs.entries()) {
      if (!this.cards.has(job.id)) this.cards.set(job.id, new Card(job, this));
      const card = this.cards.get(job.id);
      card.update(job);
      if (list.children[place] !== card.root) list.insertBefore(card.root, list.children[place] ?? null);
    }
    byId("gallery-empty").hidden = jobs.length > 0;
  }

  async play(job, name) {
    await this.guard(async () => this.show(await mediaAddress(`v1/videos/${job.id}/content`), name));
  }

  async download(job) {
    await this.guard(async () => {
      const url = await mediaAddress(`v1/videos/${job.id}/content`);
      element("a", { href: url, download: `${job.id}.mp4` }).click();
    });
  }

  async remove(job) {
    await this.guard(async () => {
      await request(`v1/videos/${job.id}`, { method: "DELETE" });
      this.refresh();
    });
  }

  async guard(work) {
    try {
      await work();
    } catch (error) {
      this.onError(error);
    }
  }
}

class Card {
  constructor(job, gallery) {
    this.name = job.prompt || "Video";
    this.status = null;
    const title = element("h3", { id: `title-${job.id}`, title: this.name }, this.name);
    this.thumb = element("button", { type: "button", class: "thumb", "aria-label": `Play ${this.name}`, onclick: () => gallery.play(job, this.name) });
    this.state = element("span", { class: "state", "aria-hidden": "true" });
    this.thumb.append(this.state, playMark());
    this.facts = element("p");
    this.why = element("p", { class: "why" });
    this.bar = element("progress", { max: 100, "aria-labelledby": `title-${job.id}` });
    this.save = element("button", { type: "button", class: "quiet", "aria-label": `Download ${this.name}`, onclick: () => gallery.download(job) }, "Download");
    this.delete = element("button", { type: "button", class: "quiet delete", onclick: () => gallery.remove(job) });
    const text = element("div", { class: "job-text" }, title, this.facts, this.bar, this.why);
    const actions = element("div", { class: "job-actions" }, this.save, this.delete);
    this.root = element("li", { class: "job", "data-id": job.id }, this.thumb, text, actions);
  }

  update(job) {
    const isDone = job.status === "completed";
    const isOver = isDone || job.status === "failed";
    this.bar.hidden = isOver;
    this.bar.value = job.progress;
    this.state.hidden = isDone;
    this.state.textContent = job.status === "in_progress" ? `${job.progress} %` : WORDS[job.status];
    this.facts.textContent = this.tell(job);
    if (job.inference_time_s) this.facts.title = `Made in ${job.inference_time_s.toFixed(1)} s`;
    this.why.hidden = !job.error;
    this.why.textContent = job.error?.message ?? "";
    this.save.hidden = !isDone;
    this.thumb.disabled = !isDone;
    const word = isOver ? "Delete" : "Cancel";
    this.delete.textContent = word;
    this.delete.setAttribute("aria-label", `${word} ${this.name}`);
    this.root.dataset.status = job.status;
    if (isDone && this.status !== job.status) this.addThumbnail(job);
    this.status = job.status;
  }

  tell(job) {
    const size = job.status !== "queued" && job.size?.replace("x", " × "); // before it runs, it is a guess
    const parts = [`${Number(job.seconds).toFixed(1)} s`, size];
    if (job.status !== "completed") parts.unshift(WORDS[job.status]);
    return parts.filter(Boolean).join(" · ");
  }

  async addThumbnail(job) {
    try {
      const url = await mediaAddress(`v1/videos/${job.id}/content?variant=thumbnail`);
      this.thumb.prepend(element("img", { src: url, alt: "" }));
    } catch {
      // A video without a picture of it is as good.
    }
  }
}

function playMark() {
  const mark = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  mark.append(svg("path", { d: "M9 6.500v11l9-5.500z" }));
  return mark;
}
