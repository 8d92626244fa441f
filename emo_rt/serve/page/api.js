// Requests to the server that has sent this page. Addresses are relative: a proxy may put a prefix before them.

const KEY = "emo_rt API key";

/** What the server refuses, in its own words. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setApiKey(key) {
  sessionStorage.setItem(KEY, key.trim());
}

export function address(path) {
  return new URL(path, document.baseURI);
}

/** The answer. Throws ApiError for every other one than 2xx, and where no server answers. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (apiKey()) headers.set("Authorization", `Bearer ${apiKey()}`);
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is it still running?");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function requestJson(path, options) {
  return (await request(path, options)).json();
}

export function postJson(path, value, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { ...options, method: "POST", headers, body: JSON.stringify(value) });
}

/** An address for <img> and <video>. These send no key, so with one the file is fetched first. */
export async function mediaAddress(path) {
  if (!apiKey()) return address(path).href;
  return URL.createObjectURL(await (await request(path)).blob());
}

/** An open socket. Browsers let a page set no header of it but its protocols, so the key is one of them. */
export function openSocket(path) {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, apiKey() ? ["emo-rt", `emo-rt-key.${apiKey()}`] : ["emo-rt"]);
  socket.binaryType = "arraybuffer";
  return socket;
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // A proxy in between answers in its own way.
  }
  const wait = answer.headers.get("Retry-After");
  const words = sentence(error.message ?? `The server answers with status ${answer.status}`);
  const again = wait && answer.status === 429 ? ` Try again in ${wait} s.` : "";
  return new ApiError(answer.status, error.code ?? "unknown", words + again);
}

/** Messages of the server begin small and end without a full stop. */
export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
