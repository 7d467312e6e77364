// What the page asks of the service, and how its refusals are told. Addresses are relative, for services below a path.

const KEY = "roadseg-api-key";
const LONGEST_WAIT_S = 60;

let key = remembered();

/** The service refused; `message` is what its problem JSON says. */
export class Refusal extends Error {
  constructor(status, problem, retryAfterS) {
    super(problem.detail || `the service answered ${status}`);
    this.status = status;
    this.title = problem.title || `Status ${status}`;
    this.reference = status >= 500 && problem.instance ? problem.instance : null;
    this.retryAfterS = retryAfterS;
  }
}

/** The service did not answer at all. */
export class Unreachable extends Error {
  title = "The service does not answer";

  constructor() {
    super(`${location.host} could not be reached; is the service running, and are you connected?`);
  }
}

// Storage may be switched off; the key is then kept until the page is left.
function remembered() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function apiKey() {
  return key;
}

export function useApiKey(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // kept in memory alone
  }
}

/** Whether a key can be sent at all: headers hold visible ASCII. */
export function isSendable(value) {
  return /^[\x21-\x7e]*$/.test(value);
}

async function ask(path, { method = "GET", accept, body, signal }) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/octet-stream"; // the bytes tell the format
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable();
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function refusalOf(response) {
  let problem = {};
  try {
    problem = (await response.json()) ?? {};
  } catch {
    // a proxy's page: the status has to do
  }
  return new Refusal(response.status, problem, secondsOf(response.headers.get("Retry-After")));
}

/** Seconds that a Retry-After header asks for, at most a minute; null where there is none. RFC 9110, section 10.2.3. */
export function secondsOf(value, now = Date.now()) {
  if (!value) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Number.isNaN(seconds) ? null : Math.min(LONGEST_WAIT_S, Math.max(1, Math.ceil(seconds)));
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/**
 * Asks again for as long as the service says when to: while its model loads, while it is full.
 * `onWait` is called with the refusal before each wait; `attempts` bounds them.
 */
export async function patiently(asking, { signal, attempts, onWait }) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await asking();
    } catch (error) {
      const again = error instanceof Refusal && [429, 503].includes(error.status) && error.retryAfterS !== null;
      if (!again || attempt >= attempts) throw error;
      onWait(error);
      await wait(error.retryAfterS, signal);
    }
  }
}

/** The model that the service answers with. */
export async function askModel(signal) {
  const response = await ask("v1/models", { accept: "application/json", signal });
  return (await response.json()).models[0];
}

/** The mask as JSON: {answer, text, timing}; `text` is what was sent, byte for byte. */
export async function askMask(image, signal) {
  const accept = "application/json";
  const response = await ask("segment?confidence=true", { method: "POST", accept, body: image, signal });
  const text = await response.text();
  return { answer: JSON.parse(text), text, timing: response.headers.get("Server-Timing") ?? "" };
}

/** The mask's palette PNG, or with `query` another picture, as the service made it. */
export async function askPicture(image, query, signal) {
  const path = query ? `segment?${new URLSearchParams(query)}` : "segment";
  return (await ask(path, { method: "POST", accept: "image/png", body: image, signal })).blob();
}

/** Whether the service has a page that documents its API; it may be switched off. */
export async function hasDocs() {
  try {
    return (await fetch("docs", { method: "HEAD", credentials: "same-origin" })).ok;
  } catch {
    return false;
  }
}
