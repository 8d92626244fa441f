// Puts the parts of the page together.

import { ApiError, apiKey, request, requestJson, setApiKey } from "./api.js";
import { byId } from "./dom.js";
import { Gallery } from "./gallery.js";
import { Portrait } from "./portrait.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Voice } from "./voice.js";

const READY_MS = 1000;

class App {
  constructor() {
    const onError = (error) => this.showError(error);
    this.portrait = new Portrait(() => this.update(), onError);
    this.voice = new Voice(() => this.update(), onError);
    this.stage = new Stage(() => this.update(), onError);
    this.gallery = new Gallery((url, name) => this.play(url, name), onError);
    byId("watch").addEventListener("click", () => this.attempt(() => this.watch()));
    byId("make").addEventListener("click", () => this.attempt(() => this.make()));
    byId("error-close").addEventListener("click", () => this.hideError());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      setApiKey(byId("key").value);
      this.start();
    });
    addEventListener("dragover", (event) => event.preventDefault()); // a drop beside the mark must not leave the page
    addEventListener("drop", (event) => event.preventDefault());
  }

  async start() {
    try {
      const { data } = await requestJson("v1/models");
      this.settings = new Settings(data, () => this.update());
    } catch (error) {
      if (error.status !== 401) return this.showError(error);
      byId("key-form").hidden = false;
      byId("model").textContent = "Locked";
      if (apiKey()) this.showError(new ApiError(401, error.code, "This key is not known to the server."));
      setApiKey("");
      byId("key").focus();
      return null;
    }
    this.hideError();
    byId("key-form").hidden = true;
    this.watchReadiness();
    this.gallery.refresh();
    this.voice.guard(() => this.voice.listSpeakers());
    await Promise.all([
      this.portrait.chooseShipped(document.querySelector(".face")),
      this.voice.guard(() => this.voice.takeSample()),
    ]);
    document.body.dataset.ready = "yes";
    return null;
  }

  /** The first request may wait for a model that is warming up: say so. */
  async watchReadiness() {
    let state = "ready";
    try {
      state = (await (await fetch("ready")).json()).status;
    } catch {
      state = "unreachable";
    }
    this.state = state;
    this.update();
    if (state !== "ready") setTimeout(() => this.watchReadiness(), READY_MS);
  }

  async attempt(work) {
    if (this.isBusy) return;
    this.isBusy = true;
    this.hideError();
    this.update();
    try {
      await work();
    } catch (error) {
      this.showError(error);
    }
    this.isBusy = false;
    this.update();
  }

  async watch() {
    const { image_reference, options } = await this.portrait.forLive();
    const extra_params = { ...options, ...this.settings.options() };
    const start = { model: this.settings.model.id, image_reference, extra_params };
    await this.stage.watch(start, this.voice.isTalk ? null : this.voice.samples);
  }

  async make() {
    const { portrait, voice, settings } = this;
    const form = new FormData();
    form.append("model", settings.model.id);
    form.append("prompt", `${portrait.name} · ${voice.name}`);
    form.append("input_reference", portrait.blob, portrait.name);
    form.append("audio", voice.blob, voice.name);
    form.append("extra_params", JSON.stringify({ ...portrait.options(), ...settings.options() }));
    this.stage.say("Sending …");
    try {
      await request("v1/videos", { method: "POST", body: form });
    } catch (error) {
      this.stage.say("");
      throw error;
    }
    this.stage.say("In the queue, see Videos below.");
    await this.gallery.refresh();
  }

  play(url, name) {
    if (this.stage.isLive) this.stage.stop();
    this.stage.show(url, name);
    byId("video").scrollIntoView({ block: "nearest" });
    byId("video").focus();
  }

  update() {
    const { portrait, settings, stage, voice } = this;
    if (!settings || !stage) return;
    const isLive = stage.isLive;
    portrait.remark(settings.model);
    byId("watch").textContent = voice.isTalk ? "Start talking" : "Watch live";
    byId("watch").disabled = this.isBusy || !portrait.isReady || !voice.isReady || !(voice.isTalk || voice.samples);
    byId("make").disabled = this.isBusy || !portrait.isReady || !voice.blob;
    for (const id of ["watch", "make"]) byId(id).hidden = isLive;
    if (voice.isTalk) byId("make").hidden = true;
    for (const id of ["interrupt", "stop", "mute"]) byId(id).hidden = !isLive;
    byId("face-box").hidden = !portrait.isReady || !byId("video").hidden || isLive;
    byId("badge").hidden = !isLive || byId("video").hidden;
    byId("model").textContent = this.describe(settings.model);
  }

  describe({ id, size, fps, device, trained_on }) {
    const words = { warming: "warming up …", draining: "ending", unreachable: "not answering" }[this.state];
    const parts = [id, `${size} × ${size}`, `${fps} fps`, device, trained_on && `for ${trained_on}`, words];
    return parts.filter(Boolean).join(" · ");
  }

  showError(error) {
    if (!(error instanceof Error)) return;
    byId("error-text").textContent = error.message;
    byId("error").hidden = false;
    byId("error").scrollIntoView({ block: "nearest" });
  }

  hideError() {
    byId("error").hidden = true;
  }
}

new App().start();
