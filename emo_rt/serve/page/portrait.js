// The face: one that ships, or a picture of the visitor's own; where its face is, and what is odd about it.

import { request, sentence } from "./api.js";
import { byId, takeFiles } from "./dom.js";
import { FaceBox } from "./face_box.js";

const LIVE_BYTES = 2 << 20; // what fits into the first message of a live session
const LIVE_SIDE = 1920; // no video is larger
const LIVE_QUALITY = 0.92;

export class Portrait {
  /** `onChange()`: something is different. `onError(error)`: what went wrong, for people. */
  constructor(onChange, onError) {
    this.onChange = onChange;
    this.onError = onError;
    this.picture = byId("picture");
    this.canvas = byId("canvas");
    this.box = new FaceBox(byId("face-box"), (box) => this.corrected(box));
    this.asked = 0; // pictures that were chosen
    this.choice = 0; // which of them is shown
    this.forget();
    for (const button of document.querySelectorAll(".face")) {
      button.addEventListener("click", () => this.chooseShipped(button));
    }
    takeFiles(byId("picture-drop"), byId("picture-file"), (file) => this.chooseOwn(file));
    takeFiles(byId("frame"), byId("picture-file"), (file) => this.chooseOwn(file));
  }

  forget() {
    this.blob = null;
    this.seen = null;
    this.correction = null;
  }

  get isReady() {
    return Boolean(this.blob && this.box.box);
  }

  async chooseShipped(button) {
    const image = button.querySelector("img");
    const answer = await fetch(button.dataset.portrait);
    await this.choose(button, await answer.blob(), image.alt.split(",")[0]);
  }

  async chooseOwn(file) {
    await this.choose(byId("picture-drop"), file, file.name);
  }

  mark(chosen) {
    for (const button of document.querySelectorAll(".face")) {
      button.setAttribute("aria-pressed", String(button === chosen));
    }
    byId("picture-drop").classList.toggle("chosen", chosen === byId("picture-drop"));
  }

  /** Show it, and ask the server what it sees in it. What is no picture changes nothing. */
  async choose(chosen, blob, name) {
    const choice = ++this.asked;
    let image;
    try {
      image = await decoded(blob);
    } catch (error) {
      this.onError(error);
      return;
    }
    if (choice < this.choice) {
      URL.revokeObjectURL(image.src);
      return;
    }
    this.choice = choice;
    this.mark(chosen);
    this.show(image);
    await this.look(choice, blob, name);
  }

  async look(choice, blob, name) {
    this.forget();
    this.box.hide();
    this.box.box = null;
    this.say("");
    this.blob = blob;
    this.name = name;
    this.onChange();
    try {
      const form = new FormData();
      form.append("input_reference", blob, name);
      const seen = await (await request("v1/faces", { method: "POST", body: form })).json();
      if (choice === this.choice) this.found(seen);
    } catch (error) {
      if (choice !== this.choice) return;
      this.forget();
      this.onError(error);
    }
    this.onChange();
  }

  show(image) {
    const { picture } = this;
    if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
    picture.src = image.src;
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
    this.canvas.style.setProperty("--ratio", String(this.width / this.height));
  }

  found(seen) {
    this.seen = seen;
    const { width, height } = seen;
    const side = 0.5 * Math.min(width, height);
    const middle = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2];
    const box = seen.faces[0]?.box ?? middle;
    this.box.show(box, width, height);
    if (!seen.faces.length) this.corrected(box);
    this.tellBox(box);
  }

  /** What the visitor should know before anything runs, for this model. */
  remark(model) {
    if (!this.seen) return this.say("");
    const { faces, warnings } = this.seen;
    if (!faces.length) return this.say("No face was found. Put the frame around the face yourself.");
    const said = [warnings[model.id], ...(faces[0].remarks ?? [])].filter(Boolean).map(sentence);
    if (faces.length > 1) said.push(`There are ${faces.length} faces; the largest one is taken. Move the frame to take another.`);
    return this.say(said.join(" "));
  }

  say(words) {
    const notice = byId("face-notice");
    if (notice.textContent !== words) notice.textContent = words; // said once, not at every change of the page
    notice.hidden = !words;
  }

  corrected(box) {
    this.correction = box;
    this.tellBox(box);
  }

  tellBox(box) {
    const [left, top, right, bottom] = box.map(Math.round);
    byId("box-place").textContent =
      `Face box: ${left} from the left, ${top} from the top, ${right - left} wide and ${bottom - top} high, in pixels.`;
  }

  /** Options of the request. */
  options(scale = 1) {
    if (this.correction) return { face_box: this.correction.map((side) => side * scale) };
    return this.seen?.faces.length > 1 ? { face_index: 0 } : {};
  }

  /** The picture as a data: URL that is small enough, and its options. */
  async forLive() {
    let { blob } = this;
    let scale = 1;
    if (blob.size > LIVE_BYTES) {
      scale = Math.min(1, LIVE_SIDE / Math.max(this.width, this.height));
      const canvas = new OffscreenCanvas(Math.round(this.width * scale), Math.round(this.height * scale));
      canvas.getContext("2d").drawImage(this.picture, 0, 0, canvas.width, canvas.height);
      blob = await canvas.convertToBlob({ type: "image/jpeg", quality: LIVE_QUALITY });
      scale = canvas.width / this.width;
    }
    return { image_reference: { image_url: await dataUrl(blob) }, options: this.options(scale) };
  }
}

async function decoded(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(image.src);
    throw new Error("This browser cannot show the picture. Choose a PNG, JPEG or WebP file.");
  }
  return image;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The picture cannot be read any more. Choose it again."));
    reader.readAsDataURL(blob);
  });
}
