/**
 * The script on the host page: a launcher button, and a panel whose iframe is loaded at the first click. It fetches
 * nothing else and stores nothing before that, changes nothing outside its own shadow root, and works under a host CSP
 * that allows our origin in `script-src` and `frame-src` only: styles are constructed, never written into the page.
 *
 * A frame that does not speak within a few seconds was blocked, most likely by its `frame-ancestors`: a sentence takes its
 * place, and the console of the browser names the setting. One that speaks later after all is shown then.
 *
 * A host page that forbids the microphone gets a window of its own on our origin instead of the panel. While a call
 * runs, a marker in the host's sessionStorage lets the next page of the site open the panel again; the call itself is
 * known to the frame alone.
 */
import type { CallPhase, Setup, Theme, ToFrame, ToHost } from '../messages';
import { CHINESE, ENGLISH, labelOf, type Words } from './launcher';
import { STYLES } from './styles';

type Handler = (detail: unknown) => void;
type Command = (name: string, ...rest: never[]) => void;

const MARKER = 'patchbay.in_call';
const ICON = 'M3 2.5h2.5L7 6 5.3 7.3a8 8 0 0 0 3.4 3.4L10 9l3.5 1.5V13c0 .6-.5 1-1 1A11 11 0 0 1 2 3.5c0-.5.4-1 1-1z';
const SPEAKS_WITHIN_MS = 8000; // a slow mobile network brings the frame within this
const LATER = ['chat', 'callback', 'identify', 'logout', 'consent'];

const script = document.currentScript as HTMLScriptElement;
const { key = '', locale = 'auto', theme = 'auto', launcher = 'show' } = script.dataset;
const origin = new URL(script.src).origin;
const setup: Setup = { locale, theme: theme as Theme, pageUrl: location.href, context: {} };
const handlers = new Map<string, Set<Handler>>();

const host = document.createElement('div');
const root = host.attachShadow({ mode: 'open' });
const button = document.createElement('button');
const panel = document.createElement('div');
const fault = document.createElement('div');
const sentence = document.createElement('span');
const retry = document.createElement('button');
let frame: HTMLIFrameElement | null = null;
let popup: Window | null = null;
let ready = false; // the frame, or the window, listens
let silent = 0; // the timer until the frame has spoken
let phase: CallPhase = 'ended';

function words(): Words {
  const wanted = setup.locale === 'auto' ? navigator.language : setup.locale;
  return wanted.toLowerCase().startsWith('zh') ? CHINESE : ENGLISH;
}

function emit(name: string, detail: unknown = null): void {
  for (const run of [...(handlers.get(name) ?? [])]) run(detail);
}

function draw(): void {
  const said = words();
  const [, , , title, blocked, again] = said;
  button.setAttribute('aria-expanded', String(!panel.hidden));
  button.classList.toggle('busy', phase !== 'ended');
  button.lastChild!.textContent = labelOf(phase, said);
  sentence.textContent = blocked;
  retry.textContent = again;
  host.dataset['theme'] = setup.theme;
  if (frame) frame.title = title;
}

function address(page: string): string {
  const query = new URLSearchParams({ key, host: location.origin, locale: setup.locale, theme: setup.theme });
  return `${origin}/widget/${page}?${query}`;
}

function tell(message: ToFrame): void {
  if (ready) (popup ?? frame?.contentWindow)?.postMessage(message, origin);
}

/** Does this page let a frame of ours have a microphone? */
function microphoneAllowed(): boolean {
  const page = document as unknown as Record<string, { allowsFeature(name: string, of?: string): boolean } | undefined>;
  const policy = page['permissionsPolicy'] ?? page['featurePolicy'];
  return policy?.allowsFeature('microphone') ?? true;
}

function open(): void {
  if (!microphoneAllowed()) return openWindow();
  if (!frame) load();
  if (!panel.hidden) return;
  panel.hidden = false;
  draw();
  enter();
  emit('open');
}

function load(): void {
  frame?.remove();
  ready = false;
  frame = document.createElement('iframe');
  frame.allow = 'microphone; camera; display-capture; autoplay';
  frame.src = address('frame');
  panel.append(frame);
  show(true);
  clearTimeout(silent);
  silent = window.setTimeout(() => {
    show(false);
    console.error(
      `Patchbay: no call window. Is ${location.origin} among the "Allowed sites" of the entry point? Does ${origin} answer?`,
    );
    emit('error', { code: 'frame_silent' });
  }, SPEAKS_WITHIN_MS);
}

/** The frame, or the sentence that it can't be shown. */
function show(works: boolean): void {
  frame!.hidden = !works;
  fault.hidden = works;
}

/** The keyboard goes inside. */
function enter(): void {
  frame?.blur(); // focus given while it was loading went to the empty document before it
  frame?.focus();
  tell({ patchbay: 'shown' });
}

function openWindow(): void {
  if (!popup || popup.closed) {
    ready = false;
    popup = window.open(address('call'), 'patchbay', 'popup,width=400,height=660');
  }
  if (popup) popup.focus();
  else return emit('error', { code: 'popup_blocked' });
  emit('open');
}

function close(): void {
  if (panel.hidden) return;
  panel.hidden = true;
  draw();
  button.focus();
  emit('close');
}

function called(state: CallPhase): void {
  phase = state;
  draw();
  try {
    if (phase !== 'ended' && !popup) sessionStorage.setItem(MARKER, key);
    else sessionStorage.removeItem(MARKER);
  } catch {
    // Without storage a reload of this page asks for one more click.
  }
}

function heard(event: MessageEvent): void {
  const source = event.source;
  if (event.origin !== origin || !source || (source !== frame?.contentWindow && source !== popup)) return;
  const message = event.data as ToHost | undefined;
  if (message?.patchbay === 'ready') {
    ready = true;
    clearTimeout(silent);
    if (frame) show(true);
    tell({ patchbay: 'setup', ...setup });
    if (!panel.hidden) enter();
  } else if (message?.patchbay === 'close') {
    close();
  } else if (message?.patchbay === 'event') {
    if (message.name === 'call') called(message.detail.state);
    emit(message.name, message.detail);
  }
}

function pressed(event: KeyboardEvent): void {
  if (event.key === 'Escape' && event.composedPath().includes(root)) close();
}

function destroy(): void {
  removeEventListener('message', heard);
  removeEventListener('keydown', pressed);
  clearTimeout(silent);
  popup?.close();
  host.remove();
  frame = popup = null;
  panel.replaceChildren();
  panel.hidden = true;
  handlers.clear();
}

function set(change: Partial<Setup>): void {
  Object.assign(setup, change);
  draw();
  tell({ patchbay: 'setup', ...setup });
}

const commands: Record<string, (...rest: never[]) => void> = {
  open,
  close,
  toggle: () => (panel.hidden ? open() : close()),
  show: () => void (button.hidden = false),
  hide: () => void (button.hidden = true),
  destroy,
  call(options?: { context?: Record<string, string> }) {
    if (options?.context) set({ context: options.context });
    open();
  },
  setLocale: (value: string) => set({ locale: value }),
  setTheme: (value: Theme) => set({ theme: value }),
  setContext: (value: Record<string, string>) => set({ context: value }),
  on(name: string, run: Handler) {
    if (!handlers.has(name)) handlers.set(name, new Set());
    handlers.get(name)!.add(run);
  },
  once(name: string, run: Handler) {
    const one: Handler = (detail) => {
      handlers.get(name)?.delete(one);
      run(detail);
    };
    (commands['on'] as Command)(name, one as never);
  },
  off: (name: string, run?: Handler) => void (run ? handlers.get(name)?.delete(run) : handlers.delete(name)),
};

function run(name: string, ...rest: never[]): void {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command) command(...rest);
  else emit('error', { code: LATER.includes(name) ? 'not_available' : 'unknown_command', command: name });
}

function start(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLES);
  root.adoptedStyleSheets = [sheet];
  panel.className = 'panel';
  panel.hidden = true;
  fault.className = 'fault';
  fault.setAttribute('role', 'alert');
  retry.onclick = () => {
    load();
    enter();
  };
  fault.append(sentence, retry);
  panel.append(fault);
  button.type = 'button';
  button.dataset['testid'] = 'widget-launcher';
  button.hidden = launcher === 'hide';
  button.onclick = () => commands['toggle']!();
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', ICON);
  svg.append(path);
  button.append(svg, document.createElement('span'));
  root.append(panel, button);
  addEventListener('message', heard);
  addEventListener('keydown', pressed);
  document.body.append(host);
  draw();

  type Queued = Command & { q?: IArguments[] };
  const page = window as unknown as { cc?: Queued };
  const queued = page.cc?.q ?? [];
  page.cc = run as Queued;
  for (const call of queued) run(...(Array.from(call) as [string]));
  emit('ready');
  try {
    if (sessionStorage.getItem(MARKER) === key) open(); // a call was running when the last page went
  } catch {
    // no storage: nothing to come back to
  }
}

if (document.body) start();
else addEventListener('DOMContentLoaded', start, { once: true });
