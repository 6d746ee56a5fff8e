/** The typed client of /api/v1: JSON both ways, the CSRF header on what changes something, one error class. */

export interface FieldError {
  loc: string;
  code: string;
  message: string;
}

/** `code` is stable and translated by the views; besides the server's: `network`, `timeout`, `bad_answer`. */
export class RestError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly fields: readonly FieldError[] = [],
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = 'RestError';
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface Rest {
  get<T>(path: string, query?: Query): Promise<T>;
  /** `withinMs`: for what takes longer than an answer usually does. */
  post<T>(path: string, body?: unknown, withinMs?: number): Promise<T>;
  patch<T>(path: string, body: unknown): Promise<T>;
  delete<T>(path: string, query?: Query): Promise<T>;
  /** Called at each 401: the cookie has gone stale. */
  onLoggedOut(run: () => void): () => void;
}

export interface RestOptions {
  csrf?: () => string | null;
  fetch?: typeof fetch;
  base?: string;
  timeoutMs?: number;
}

const TIMEOUT_MS = 15_000; // a slow mobile network answers within this, a dead one never

export function createRest(options: RestOptions = {}): Rest {
  const { csrf = () => null, base = '/api/v1', timeoutMs = TIMEOUT_MS } = options;
  const send = options.fetch ?? ((input, init) => fetch(input, init));
  const loggedOut = new Set<() => void>();

  async function request<T>(method: string, path: string, query?: Query, body?: unknown, withinMs = timeoutMs): Promise<T> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const token = method === 'GET' ? null : csrf();
    if (token) headers['x-csrf-token'] = token;
    let answer: Response;
    let text: string;
    try {
      answer = await send(base + path + queryString(query), {
        method,
        headers,
        credentials: 'same-origin',
        signal: AbortSignal.timeout(withinMs),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await answer.text();
    } catch (cause) {
      const late = cause instanceof DOMException && cause.name === 'TimeoutError';
      throw new RestError(0, late ? 'timeout' : 'network', String(cause));
    }
    if (answer.status === 401) for (const run of [...loggedOut]) run();
    if (!answer.ok) throw failure(answer, text);
    if (text === '') return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new RestError(answer.status, 'bad_answer', `${method} ${path} did not answer with JSON`);
    }
  }

  return {
    get: (path, query) => request('GET', path, query),
    post: (path, body, withinMs) => request('POST', path, undefined, body ?? {}, withinMs),
    patch: (path, body) => request('PATCH', path, undefined, body),
    delete: (path, query) => request('DELETE', path, query),
    onLoggedOut(run) {
      loggedOut.add(run);
      return () => loggedOut.delete(run);
    },
  };
}

function queryString(query: Query = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  if (pairs.length === 0) return '';
  return `?${new URLSearchParams(pairs.map(([key, value]) => [key, String(value)]))}`;
}

function failure(answer: Response, text: string): RestError {
  const retryAfter = Number(answer.headers.get('retry-after') ?? Number.NaN);
  const retryAfterS = Number.isFinite(retryAfter) ? retryAfter : null;
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string; fields?: FieldError[] } };
    return new RestError(answer.status, error.code, error.message, error.fields ?? [], retryAfterS);
  } catch {
    return new RestError(answer.status, 'bad_answer', text.slice(0, 200), [], retryAfterS); // a proxy's page, say
  }
}
