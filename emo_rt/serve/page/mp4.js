// What is in the first bytes of a fragmented MP4, as MediaSource wants to know it (ISO/IEC 14496-12, -14, -15).

const AVC_FIELDS = 78; // of a video sample entry, before its boxes
const AUDIO_FIELDS = 28; // of an audio sample entry

/** "video/mp4; codecs=…" of a movie's beginning. Throws where there is no picture in it. */
export function mimeType(bytes) {
  const codecs = [];
  for (const trak of children(only(whole(bytes), "moov"), "trak")) {
    const stsd = ["mdia", "minf", "stbl", "stsd"].reduce(only, trak);
    for (const entry of boxes(stsd, 8)) {
      const codec = codecOf(entry);
      if (codec) codecs.push(codec);
    }
  }
  if (!codecs.some((codec) => codec.startsWith("avc1"))) throw new Error("There is no H.264 in the stream.");
  return `video/mp4; codecs="${codecs.join(", ")}"`;
}

function codecOf(entry) {
  if (entry.name === "avc1") {
    const avcc = [...boxes(entry.content, AVC_FIELDS)].find((box) => box.name === "avcC").content;
    const numbers = [1, 2, 3].map((place) => avcc.getUint8(place)); // profile, constraints, level
    return `avc1.${numbers.map((number) => number.toString(16).padStart(2, "0")).join("")}`;
  }
  if (entry.name === "mp4a") {
    const esds = [...boxes(entry.content, AUDIO_FIELDS)].find((box) => box.name === "esds").content;
    return `mp4a.${audioObject(esds)}`;
  }
  return null;
}

/** The kind of sound, like 40.2: descriptors 3 (stream), in it 4 (decoder), in it 5 (the decoder's own). */
function audioObject(esds) {
  let place = 4;
  const open = (tag) => {
    if (esds.getUint8(place++) !== tag) throw new Error("The sound of the stream is described in an unknown way.");
    while (esds.getUint8(place++) & 0x80); // length, seven bits a byte
  };
  open(3);
  const flags = esds.getUint8(place + 2);
  place += 3 + (flags & 0x80 ? 2 : 0) + (flags & 0x20 ? 2 : 0);
  open(4);
  const kind = esds.getUint8(place);
  place += 13;
  open(5);
  return `${kind.toString(16)}.${esds.getUint8(place) >> 3}`;
}

function whole(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function* boxes(view, start = 0) {
  for (let place = start; place + 8 <= view.byteLength; ) {
    const size = view.getUint32(place);
    const letters = [4, 5, 6, 7].map((index) => view.getUint8(place + index));
    if (size < 8 || place + size > view.byteLength) return;
    const content = new DataView(view.buffer, view.byteOffset + place + 8, size - 8);
    yield { name: String.fromCharCode(...letters), content };
    place += size;
  }
}

function children(view, name) {
  return [...boxes(view)].filter((box) => box.name === name).map((box) => box.content);
}

function only(view, name) {
  const found = children(view, name)[0];
  if (!found) throw new Error(`The stream has no box ${name}.`);
  return found;
}
