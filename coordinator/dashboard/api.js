// The coordinator's JSON API (docs/http-api.md).

// The API answered, and its answer is an error: {code, message} as it says.
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// There is no answer: no coordinator, no network, or it takes too long.
export class Unreachable extends Error {}

const TIMEOUT_MS = 5000;

// The answer as an object. Throws ApiError for an answer that is an error, Unreachable for none.
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  signal?.addEventListener('abort', () => timeout.abort(), {once: true});
  try {
    const {status, answer} = await fetchJson(`/api/v1${path}${query && `?${query}`}`,
                                            timeout.signal);
    if (status !== 200) throw new ApiError(status, answer.error?.code, answer.error?.message);
    return answer;
  } finally {
    clearTimeout(timer);
  }
}

async function fetchJson(url, signal) {
  try {
    const response = await fetch(url, {signal, cache: 'no-store'});
    return {status: response.status, answer: await response.json()};
  } catch (error) {
    throw new Unreachable(`${url}: ${error.message}`);
  }
}

export const jobPath = (id, part = '') => `/jobs/${encodeURIComponent(id)}${part}`;
