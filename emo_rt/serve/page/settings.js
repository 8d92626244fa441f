// Settings that the model heeds, and no others.

import { byId, element } from "./dom.js";

const SLIDERS = {
  speed: { label: "Head speed", max: 1.5, start: 0.5, hint: "How fast the head turns. Speech is at ease below 1." },
  head_room: { label: "Head room", max: 1, start: 0.2, hint: "How far the face may move out of its frame." },
};

export class Settings {
  /** `models`: as the server lists them. `onChange()`: another model. */
  constructor(models, onChange) {
    this.models = models;
    this.model = models[0];
    this.onChange = onChange;
    this.build();
  }

  build() {
    this.changed = {};
    const parts = [];
    if (this.models.length > 1) {
      parts.push(this.choice("model", "Model", this.models.map(({ id }) => [id, id]), this.model.id, (value) => {
        this.model = this.models.find(({ id }) => id === value);
        this.build();
        this.onChange();
      }));
    }
    const presets = this.model.presets.map((name) => [name, name.charAt(0).toUpperCase() + name.slice(1)]);
    if (presets.length > 1) {
      parts.push(this.choice("mode", "Preset", [["", "The model’s own"], ...presets], "", (value) => {
        this.changed.mode = value || undefined;
      }));
    }
    for (const [name, slider] of Object.entries(SLIDERS)) {
      if (this.model.heeds.includes(name)) parts.push(this.slider(name, { ...slider, start: this.model[name] ?? slider.start }));
    }
    if (!parts.length) parts.push(element("p", { class: "hint" }, "This model has none."));
    byId("settings").replaceChildren(...parts);
  }

  choice(name, label, options, chosen, changed) {
    const select = element("select", { id: name, onchange: () => changed(select.value) });
    select.append(...options.map(([value, text]) => new Option(text, value)));
    select.value = chosen;
    return element("div", { class: "setting" }, element("label", { for: name }, label), select);
  }

  slider(name, { label, max, start, hint }) {
    const shown = element("output", { for: name }, "the model’s own");
    const range = element("input", {
      id: name, type: "range", min: 0, max, step: 0.05, value: start, "aria-describedby": `${name}-hint`,
      oninput: () => {
        this.changed[name] = Number(range.value);
        shown.textContent = Number(range.value).toFixed(2);
      },
    });
    const words = element("p", { class: "hint", id: `${name}-hint` }, hint);
    return element("div", { class: "setting" }, element("label", { for: name }, label), shown, range, words);
  }

  /** What the visitor has changed, as options of a request. */
  options() {
    return { ...this.changed };
  }
}
